"""Wells of boxes have the published slopes, and a run's curvature is plotted from its log."""

import itertools
import json

import numpy as np
import pytest

from tests.report.test_curves import curves, texts, write_run
from ugs_jax.curvature.spectrum import Density
from ugs_jax.report import RunError, plot_sharpness, plot_wells
from ugs_jax.report.plots.wells import iou_well, ugs_well

SHIFTS = np.array([-3.0, -1.0, -0.25, 0.5, 2.0, 3.5], np.float32)


@pytest.mark.parametrize("size", [4.0, 8.0, 64.0])
def test_the_slope_of_a_well_is_the_derivative_for_equal_squares(size):
    found, d = iou_well(size, SHIFTS), np.abs(SHIFTS)
    np.testing.assert_allclose(found.loss, np.log((size + d) / (size - d)), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found.gradient, 2 * size / (size**2 - d**2), rtol=1e-4)


def test_the_same_shift_has_a_larger_gradient_for_smaller_boxes():
    pulls = [iou_well(size, SHIFTS).gradient for size in (4.0, 8.0, 16.0, 32.0)]
    assert all((small > 1.5 * large).all() for small, large in itertools.pairwise(pulls))


def test_no_gradient_of_ugs_is_longer_than_the_root_of_two():
    shifts = np.linspace(-100, 100, 201).astype(np.float32)
    pulls = np.stack([ugs_well(size, shifts).gradient for size in (4.0, 16.0, 64.0)])
    assert pulls.max() <= np.sqrt(2) * (1 + 1e-6)
    assert pulls.max() > 1.2  # and far off it comes close


def test_wells_are_drawn_with_loss_and_gradient_of_every_size(tmp_path, figures):
    assert plot_wells(tmp_path / "wells.png", sizes=(4.0, 16.0)).stat().st_size > 0
    drawn = curves(figures[0])
    assert list(drawn) == [
        "−ln IoU: loss", "−ln IoU: gradient (∂/∂shift, 1/px)",
        "UGS, cross entropy: loss", "UGS, cross entropy: gradient (norm of ∂/∂logits)",
    ]  # fmt: skip
    for size, line in zip((4.0, 16.0), drawn["−ln IoU: gradient (∂/∂shift, 1/px)"], strict=True):
        shifts, slopes = line[::37].T
        np.testing.assert_allclose(slopes, 2 * size / (size**2 - shifts**2), rtol=1e-4)
    assert {"4 px", "16 px"} <= set(texts(figures[0]))


def test_a_size_below_the_largest_shift_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sizes: expected sides above 3.6 px.*got 2"):
        plot_wells(tmp_path / "wells.png", sizes=(8.0, 2.0))


def test_curvature_of_a_run_is_drawn_from_its_log(tmp_path, figures):
    folder = write_run(tmp_path / "run")
    with pytest.raises(RunError, match="expected curvature in the log, found none"):
        plot_sharpness(folder, tmp_path / "nothing.png")
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for i, row in enumerate(rows):
        if row["kind"] == "train":
            row |= {"box_curvature_tiny": 0.1 + 0.01 * i, "gradient_variance_small": 0.5, "curvature_tiny": None}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot_sharpness(folder, tmp_path / "logged.png")
    density = Density(np.array([[-1.0, 0.0, 5.0]]), np.array([[0.1, 0.8, 0.1]]), np.zeros((1, 3)))
    line = (np.linspace(-1, 1, 5), np.linspace(-1, 1, 5) ** 2)
    plot_sharpness(folder, tmp_path / "everything.png", density, {"gradient": line})
    logged, everything = map(curves, figures)
    box, spread = logged.values()
    found = [(row["epoch"], row["box_curvature_tiny"]) for row in rows if row["kind"] == "train"]
    np.testing.assert_allclose(box, [found])
    np.testing.assert_array_equal(spread[0][:, 1], 0.5)
    assert list(everything)[-2:] == ["Density of the Hessian's eigenvalues", "Loss along the gradient direction"]
    points, heights = everything["Density of the Hessian's eigenvalues"][0].T
    assert abs(points[heights.argmax()]) < 0.1  # eight tenths of the eigenvalues are 0
    np.testing.assert_array_equal(everything["Loss along the gradient direction"][0], np.transpose(line))
