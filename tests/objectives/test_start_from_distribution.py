"""Layers made from layers of distributions: logits by hand, means of integrals, and how far means move."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate

from tests.reference.losses_by_hand import softmax
from ugs_jax.boxes import Anchors
from ugs_jax.objectives import DFL, GridPoints, SideUGS
from ugs_jax.objectives.start_layer import resampled_layer

PUBLISHED = np.arange(16.0)
UNEVEN = np.array([-1.5, -1.0, 0.0, 0.25, 0.75, 1.0, 2.5, 6.0, 15.0, 17.0])


def resampled(logits, points):
    """Logits on `points` of a head that predicts the published logits, [n, 16]."""
    kernel = np.tile(np.eye(16)[:, None], (1, 1, 4))  # the features are the logits of every parameter
    made, bias = resampled_layer(kernel, np.zeros((1, 64)), PUBLISHED, np.asarray(points))
    return (np.asarray(logits) @ made[:, 0] + bias[0]).reshape(len(logits), 4, -1)[:, 0]


def by_hand(logits, points):
    """Logits of one distribution, in a loop over the points."""
    found = []
    for i, y in enumerate(points):
        inside = min(max(y, 0.0), 15.0)
        below = min(int(inside), 14)
        share = inside - below
        z = (1 - share) * logits[below] + share * logits[below + 1] - 4 * abs(y - inside)
        neighbours = points[max(i - 1, 0)], points[min(i + 1, len(points) - 1)]
        sides = 1 if i in (0, len(points) - 1) else 2  # an end stands for as much as if its interval went on
        found.append(z + np.log((neighbours[1] - neighbours[0]) / sides))
    return found


def normal(means, width):
    return -np.square(PUBLISHED - np.asarray(means)[:, None]) / (2 * width**2)


def moved(logits, points):
    """Means of published distributions, and how far those of the made ones are from them, in strides."""
    before = np.array([np.dot(softmax(row), PUBLISHED) for row in logits.tolist()])
    after = np.array([np.dot(softmax(row), points) for row in resampled(logits, points).tolist()])
    return before, np.abs(after - before)


@pytest.mark.parametrize("points", [UNEVEN, SideUGS().grid.points()])
def test_logits_are_interpolated_and_have_the_log_of_their_interval_added(points):
    logits = np.random.default_rng(0).normal(scale=3, size=(5, 16))
    np.testing.assert_allclose(resampled(logits, points), [by_hand(row, points) for row in logits], atol=1e-12)


def test_kernels_biases_and_parameters_keep_their_places():
    rng = np.random.default_rng(0)
    kernel, bias, features = rng.normal(size=(6, 2, 64)), rng.normal(size=(2, 64)), rng.normal(size=(7, 6))
    made, level = SideUGS(grid=GridPoints(tuple(UNEVEN))).layer_from_distribution(kernel, bias, PUBLISHED)
    assert (made.shape, level.shape) == ((6, 2, 40), (2, 40))
    published = np.einsum("nc,cak->nak", features, kernel) + bias
    found = np.einsum("nc,cak->nak", features, made) + level
    for n, anchor, side in np.ndindex(7, 2, 4):
        want = by_hand(published[n, anchor].reshape(4, 16)[side], UNEVEN)
        np.testing.assert_allclose(found[n, anchor].reshape(4, 10)[side], want, atol=1e-12)


def test_the_same_points_give_the_same_layer():
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(6, 1, 64)), rng.normal(size=(1, 64))
    for one, other in zip(DFL().layer_from_distribution(kernel, bias, PUBLISHED), (kernel, bias), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_means_on_a_fine_grid_are_those_of_the_integral_of_the_interpolated_density():
    logits = np.random.default_rng(1).normal(scale=2, size=16)
    points = np.linspace(0, 15, 3001)
    p = softmax(resampled([logits], points)[0].tolist())
    density = lambda y: np.exp(np.interp(y, PUBLISHED, logits))  # noqa: E731
    total, first = (
        integrate.quad(lambda y, k=k: y**k * density(y), 0, 15, points=list(PUBLISHED[1:-1]))[0] for k in (0, 1)
    )
    assert np.dot(p, points) == pytest.approx(first / total, abs=2e-3)  # an end counts half a step too much


@pytest.mark.parametrize(
    ("width", "near", "far"), [(0.35, 0.16, 0.03), (0.5, 0.1, 0.03), (0.7, 0.05, 0.03), (1.5, 0.04, 0.02)]
)
def test_boxes_are_nearly_those_of_the_published_head_and_the_narrower_its_peaks_the_less_so(width, near, far):
    """The tolerances that `resampled_layer` states: below 4 strides, where the default grid is finer, and beyond."""
    before, off = moved(normal(np.linspace(0, 15, 301), width), SideUGS().grid.points())
    assert off[before < 4].max() < near
    assert off[before >= 4].max() < far


def test_peaks_over_an_even_floor_move_further():
    """A tenth of the mass lies evenly on all points: interpolation raises the floor between a point and the peak."""
    means = np.linspace(0, 15, 301)
    label = np.maximum(1 - np.abs(PUBLISHED - means[:, None]), 0)
    before, off = moved(np.log(0.9 * label + 0.1 / 16), SideUGS().grid.points())
    assert 0.2 < off.max() < 0.55
    assert off[before >= 4].max() < 0.1


@pytest.mark.parametrize("width", [0.35, 0.5, 1.0, 2.0])
def test_another_dfl_that_begins_below_zero_has_nearly_the_same_means(width):
    _, off = moved(normal(np.linspace(0, 15, 301), width), DFL(17, start=-1).points)
    assert off.max() < 0.025


def test_a_grid_much_coarser_than_the_peaks_cannot_place_them():
    """The limit: at steps of 3.5 strides, narrow peaks fall between the points."""
    before, off = moved(normal(np.linspace(0, 14, 281), 0.35), np.array([-1, 0, 0.5, 1, 1.7, 2.5, 4, 7, 10.5, 14.0]))
    assert off[before > 4].max() > 1


@given(st.lists(st.floats(-20, 20), min_size=16, max_size=16), st.floats(-30, 30))
def test_a_constant_added_to_the_published_logits_changes_nothing(logits, constant):
    one, other = (resampled([np.array(logits) + c], UNEVEN)[0].tolist() for c in (0.0, constant))
    np.testing.assert_allclose(softmax(one), softmax(other), atol=1e-9)


grids = st.lists(st.integers(-40, 160), min_size=2, max_size=12, unique=True).map(
    lambda steps: [s / 10 for s in sorted(steps)]
)


@given(grids, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_two_hot_labels_of_distances_decode_to_their_box(positions, shares):
    """Each distance is a share of the way from one end of the grid to the other."""
    span = positions[-1] - positions[0]
    distances = [positions[0] + share * span for share in shares]
    label = []
    for d in distances:
        upper = min(next((i for i, y in enumerate(positions) if y >= d and i), len(positions) - 1), len(positions) - 1)
        share = min((d - positions[upper - 1]) / (positions[upper] - positions[upper - 1]), 1.0)
        row = [0.0] * len(positions)
        row[upper - 1], row[upper] = 1 - share, share
        label += row
    raw = np.log(np.maximum(label, 1e-30))
    around = Anchors(*(jnp.asarray(part, jnp.float32) for part in ((20, 12), (6, 9), (8, 4))))
    box = SideUGS(grid=GridPoints(tuple(positions))).decode(jnp.asarray(raw, jnp.float32), around)
    left, top, right, bottom = distances
    want = []
    for low, high in ((20 - 8 * left, 20 + 8 * right), (12 - 4 * top, 12 + 4 * bottom)):
        want.append((low, high) if low <= high else ((low + high) / 2, (low + high) / 2))
    np.testing.assert_allclose(box, np.array(want).T.ravel(), atol=2e-3)  # float32 sums of up to 12 points, times 8
