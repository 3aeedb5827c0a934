"""Plots of the contents of a run folder."""

import itertools
import json
import math
import re
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from ugs_jax.report import RunError, plot_comparison, plot_run, read_groups, read_run
from ugs_jax.report.plots.axes import spread
from ugs_jax.report.plots.colors import line_style
from ugs_jax.report.plots.comparison import line_styles, seed_curve
from ugs_jax.report.plots.run import smooth


def write_run(folder, name="CIoU", seed=0, top=0.3, epochs=6, train=True, side=64, objective=None):
    folder.mkdir(parents=True)
    config = {"name": name, "localization": objective or name, "seed": seed, "dataset": "tiny"}
    config |= {"network": "YOLOv5p", "image_size": [side, side]}
    (folder / "config.json").write_text(json.dumps(config))
    rows = []
    for step in range(0, 10 * epochs, 2) if train else ():
        loss = 3 * math.exp(-step / 15)
        rows.append({"kind": "train", "step": step, "epoch": step / 10, "loss": loss, "box": loss / 100})
        rows[-1] |= {"uncertainty": 0.5, "learning_rate": 0.01, "images_per_second": 12.0}
    for epoch in range(1, epochs + 1):
        ap = top * (1 - math.exp(-epoch / 2)) + 0.001 * seed
        rows.append({"kind": "eval", "step": 10 * epoch, "epoch": float(epoch), "ap": ap, "ap50": 1.8 * ap})
        rows[-1] |= {"ap75": None, "ap_tiny": ap / 2, "ap_medium": None}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def curves(figure):
    """Points of every line in a figure, by the title of its axes."""
    return {
        axes.get_title(loc="left"): [line.get_xydata() for line in axes.lines if len(line.get_xydata()) > 1]
        for axes in figure.axes
    }


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_run_is_drawn_into_its_folder(tmp_path, figures):
    path = plot_run(folder := write_run(tmp_path / "run"))
    assert path == tmp_path / "run" / "curves.png"
    with Image.open(path) as picture:
        assert min(picture.size) > 300
    (figure,) = figures
    assert figure.texts[0].get_text() == "CIoU, seed 0"
    drawn, logged = curves(figure), read_run(folder).metrics
    assert list(drawn) == [
        "Training loss", "Average precision, %", "AP by object size, %", "Uncertainty of the boxes", "Learning rate",
    ]  # fmt: skip
    np.testing.assert_allclose(drawn["Training loss"][0], [(row["epoch"], row["loss"]) for row in logged.train])
    ap = [(row["epoch"], 100 * row["ap"]) for row in logged.evaluations]
    np.testing.assert_allclose(drawn["Average precision, %"][1], ap)
    assert f"AP {ap[-1][1]:.1f}" in texts(figure)
    assert [len(lines) for lines in drawn.values()][1:] == [2, 1, 2, 1]  # the uncertainty and its median


def test_a_run_without_training_rows_shows_its_scores_only(tmp_path):
    with_losses = plot_run(write_run(tmp_path / "a"))
    without = plot_run(write_run(tmp_path / "b", train=False))
    with Image.open(with_losses) as large, Image.open(without) as small:
        assert small.size[0] < large.size[0]
        assert small.size[1] < large.size[1]


@pytest.mark.parametrize("loss", [0.0, math.nan, math.inf, -1.0])
def test_losses_without_a_logarithm_are_drawn(tmp_path, loss, figures):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"kind": "train", "step": 999, "epoch": 7.0, "loss": loss}) + "\n")
    assert plot_run(folder).stat().st_size > 0
    shown = curves(figures[0])["Training loss"][0]
    if math.isfinite(loss):
        np.testing.assert_array_equal(shown[-1], [7.0, loss])


def test_a_run_of_one_evaluation_is_drawn_as_a_point(tmp_path, figures):
    plot_run(write_run(tmp_path / "run", epochs=1, train=False))
    points = [line for line in figures[0].axes[0].lines if line.get_marker() == "o"]
    assert [len(line.get_xydata()) for line in points] == [1, 1]


def test_a_run_without_metrics_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", epochs=0)
    with pytest.raises(RunError, match="expected logged metrics, found none of the plotted ones"):
        plot_run(folder)


def test_methods_are_drawn_together(tmp_path, figures):
    groups = {
        "CIoU": [write_run(tmp_path / f"c{seed}", seed=seed) for seed in range(3)],
        "UGS": [write_run(tmp_path / f"u{seed}", "UGS", seed, top=0.4) for seed in range(2)],
        "L2": [write_run(tmp_path / "l", "L2", top=0.1)],
    }
    path = plot_comparison(groups, tmp_path / "out" / "comparison.png")
    assert path.exists()
    said = texts(figures[0])
    for name in groups:
        assert any(name in text for text in said), said


def test_an_svg_names_methods_seeds_and_the_baselines_best(tmp_path):
    groups = {"CIoU": [write_run(tmp_path / "c")], "UGS": [write_run(tmp_path / "u", "UGS", top=0.4)]}
    text = plot_comparison(groups, tmp_path / "comparison.svg").read_text()
    for words in ["best of CIoU: 28.5", "CIoU: best 28.5 (n=1)", "UGS: best 38.0 (n=1), 2.00× earlier"]:
        assert words in text  # matplotlib notes each text beside its outlines


def two_sizes(folder):
    """A baseline and two methods at two image sizes, under names of their own."""
    return {
        f"{name} {side}": [write_run(folder / f"{name}{side}", f"{name} {side}", top=top, side=side, objective=name)]
        for side, top in ((64, 0.2), (96, 0.3))
        for name, top in (("A", top), ("B", top + 0.05), ("C", top + 0.1))
    }


def test_of_two_image_sizes_a_method_keeps_its_colour_and_a_size_its_dash(tmp_path):
    styles = line_styles(read_groups(two_sizes(tmp_path)))
    for name in "ABC":
        assert styles[f"{name} 64"].color == styles[f"{name} 96"].color
    assert len({style.color for style in styles.values()}) == 3
    dashes = [{styles[f"{name} {side}"].dash for name in "ABC"} for side in (64, 96)]
    assert [len(each) for each in dashes] == [1, 1]
    assert dashes[0] != dashes[1]


def test_methods_with_the_same_objective_and_network_have_different_colours(tmp_path):
    groups = two_sizes(tmp_path)
    groups |= {"D 64": [write_run(tmp_path / "d", "D 64", side=64, objective="A")]}
    styles = line_styles(read_groups(groups))
    assert len(set(styles.values())) == len(styles)


def test_the_plot_of_two_image_sizes_explains_colours_and_dashes(tmp_path):
    text = plot_comparison(two_sizes(tmp_path), tmp_path / "comparison.svg").read_text()
    for words in ["best of A 64: 19.0", "best of A 96: 28.5", "64 × 64 px solid, 96 × 96 px dashed."]:
        assert words in text


def test_two_dots_at_the_same_position_are_both_visible(tmp_path):
    groups = {name: [write_run(tmp_path / name, name, top=top)] for name, top in (("A", 0.2), ("B", 0.3), ("C", 0.3))}
    path = plot_comparison(groups, tmp_path / "comparison.png")
    with Image.open(path) as picture:
        inside = np.asarray(picture.convert("RGB"))[:, :700].reshape(
            -1, 3
        )  # left of the labels, which are coloured too
    for index in range(2):  # the line of B is below that of C from end to end
        color = [int(line_style(index)[0][i : i + 2], 16) for i in (1, 3, 5)]
        assert (inside == color).all(axis=1).sum() > 10


def test_the_label_of_the_baselines_best_lies_beside_the_curves(tmp_path):
    text = plot_comparison({"A": [write_run(tmp_path / "a", "A", top=0.9)]}, tmp_path / "comparison.svg").read_text()
    start = text.index("best of A")
    right_of_axes = (0.6 + 6.4) * 72
    assert float(re.search(r"translate\(([\d.]+) ", text[start:])[1]) > right_of_axes


def test_a_method_that_is_later_says_so(tmp_path):
    groups = {
        "A": [write_run(tmp_path / "a", "A", epochs=3)],
        "B": [write_run(tmp_path / "b", "B", top=0.25, epochs=8)],
    }
    # A's best, 0.3 (1 − e^−1.5) at epoch 3, is first passed by 0.25 (1 − e^−t/2) at t = 6.
    assert "2.00× later" in plot_comparison(groups, tmp_path / "comparison.svg").read_text()


def test_the_same_runs_give_the_same_svg(tmp_path):
    groups = {"CIoU": [write_run(tmp_path / "c")]}
    first, second = (plot_comparison(groups, tmp_path / name).read_bytes() for name in ("1.svg", "2.svg"))
    assert first == second


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a name ending in \.png, \.svg or \.pdf, got '\.jpg'"):
        plot_comparison({"CIoU": [write_run(tmp_path / "c")]}, tmp_path / "comparison.jpg")


def test_drawing_needs_no_pyplot(tmp_path):
    plot_run(write_run(tmp_path / "run"))
    assert "matplotlib.pyplot" not in sys.modules or sys.modules["matplotlib.pyplot"].get_fignums() == []


def test_the_band_spans_the_seeds_at_the_epochs_they_share(tmp_path):
    runs = [read_run(write_run(tmp_path / str(seed), seed=seed, epochs=4 + seed)) for seed in range(3)]
    curve = seed_curve(runs)
    assert curve.epochs == [1.0, 2.0, 3.0, 4.0]
    np.testing.assert_allclose(np.subtract(curve.high, curve.low), 0.002)
    np.testing.assert_allclose(np.subtract(curve.mean, curve.low), 0.001)


def test_smoothing_ignores_outliers_and_gaps():
    assert smooth([1.0, 1.0, 50.0, 1.0, math.nan, 3.0], 3) == [1.0, 1.0, 1.0, 1.0, 25.5, 2.0]
    assert math.isnan(smooth([math.inf], 3)[0])


@hypothesis.given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_labels_keep_their_order_and_distance(wanted, gap):
    placed = spread(wanted, gap)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = [placed[i] for i in order]
    assert all(above - below >= gap - 1e-9 for below, above in itertools.pairwise(heights))
    assert all(height <= 1.0 for height in heights)


def test_labels_that_do_not_touch_stay_where_they_are():
    assert spread([0.9, 0.1, 0.5], 0.2) == [0.9, 0.1, 0.5]


def test_labels_that_touch_are_moved_apart_evenly():
    assert spread([0.5, 0.5], 0.2) == pytest.approx([0.4, 0.6])
    assert spread([1.0, 1.0], 0.2) == pytest.approx([0.8, 1.0])
