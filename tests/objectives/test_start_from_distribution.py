"""Layers made from layers of distributions: logits by hand, means of integrals, and how far means move."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from tests.reference.labels_by_hand import two_hot
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
        interval = (neighbours[1] - neighbours[0]) / sides
        held = sum(two_hot(float(k), list(points))[i] for k in range(16) if points[0] <= k <= points[-1])
        found.append(z + np.log(0.9 * held + 0.1 * interval))
    return found


def normal(means, width):
    return -np.square(PUBLISHED - np.asarray(means)[:, None]) / (2 * width**2)


def moved(logits, points):
    """Errors of the means of the made distributions against the published ones, in strides."""
    before = np.array([np.dot(softmax(row), PUBLISHED) for row in logits.tolist()])
    after = np.array([np.dot(softmax(row), points) for row in resampled(logits, points).tolist()])
    return np.abs(after - before)


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


def test_means_on_a_fine_grid_are_those_of_published_points_and_of_the_interpolated_density():
    logits = np.random.default_rng(1).normal(scale=2, size=16)
    points = np.linspace(0, 15, 3001)
    p = softmax(resampled([logits], points)[0].tolist())
    density = lambda y: np.exp(np.interp(y, PUBLISHED, logits))  # noqa: E731
    between = [integrate.quad(lambda y, k=k: y**k * density(y), 0, 15, points=list(PUBLISHED[1:-1]))[0] for k in (0, 1)]
    mass, first = (0.9 * np.sum(PUBLISHED**k * np.exp(logits)) + 0.1 * between[k] for k in (0, 1))
    assert np.dot(p, points) == pytest.approx(first / mass, abs=2e-3)  # an end counts half a step too much


@pytest.mark.parametrize("width", [0.35, 0.5, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("points", [SideUGS().grid.points(), DFL(17, start=-1).points], ids=["sides", "DFL from −1"])
def test_boxes_of_published_heads_with_one_peak_move_by_a_fiftieth_of_a_stride(width, points):
    assert moved(normal(np.linspace(0, 15, 301), width), points).max() < 0.02


@pytest.mark.parametrize(("spread", "tolerance"), [(0.01, 0.02), (0.1, 0.04), (0.2, 0.06)])
def test_mass_that_is_spread_over_all_points_moves_boxes_further(spread, tolerance):
    label = np.maximum(1 - np.abs(PUBLISHED - np.linspace(0, 15, 301)[:, None]), 0)
    assert moved(np.log((1 - spread) * label + spread / 16), SideUGS().grid.points()).max() < tolerance


@pytest.mark.parametrize("scale", [0.5, 1, 2, 3])
def test_random_logits_move_boxes_by_less_than_a_fifth_of_a_stride(scale):
    logits = np.random.default_rng(0).normal(scale=scale, size=(2000, 16))
    off = moved(logits, SideUGS().grid.points())
    assert off.max() < 0.2
    assert np.sqrt(np.mean(off**2)) < 0.05


def test_a_grid_much_coarser_than_the_peaks_cannot_place_them():
    """The limit: at steps of 3.5 strides, narrow peaks fall between the points."""
    means = np.linspace(4, 14, 201)
    assert moved(normal(means, 0.35), np.array([-1, 0, 0.5, 1, 1.7, 2.5, 4, 7, 10.5, 14.0])).max() > 1


@given(st.lists(st.floats(-20, 20), min_size=16, max_size=16), st.floats(-30, 30))
def test_a_constant_added_to_the_published_logits_changes_nothing(logits, constant):
    one, other = (resampled([np.array(logits) + c], UNEVEN)[0].tolist() for c in (0.0, constant))
    np.testing.assert_allclose(softmax(one), softmax(other), atol=1e-9)


grids = st.lists(st.integers(-40, 160), min_size=2, max_size=12, unique=True).map(
    lambda steps: [s / 10 for s in sorted(steps)]
)


@settings(max_examples=25)
@given(grids, st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_two_hot_labels_of_distances_decode_to_their_box(positions, shares):
    """Each distance is a share of the way from one end of the grid to the other."""
    span = positions[-1] - positions[0]
    distances = [positions[0] + share * span for share in shares]
    label = [p for d in distances for p in two_hot(d, positions)]
    raw = np.log(np.maximum(label, 1e-30))
    around = Anchors(*(jnp.asarray(part, jnp.float32) for part in ((20, 12), (6, 9), (8, 4))))
    box = SideUGS(grid=GridPoints(tuple(positions))).decode(jnp.asarray(raw, jnp.float32), around)
    left, top, right, bottom = distances
    want = []
    for low, high in ((20 - 8 * left, 20 + 8 * right), (12 - 4 * top, 12 + 4 * bottom)):
        want.append((low, high) if low <= high else ((low + high) / 2, (low + high) / 2))
    np.testing.assert_allclose(box, np.array(want).T.ravel(), atol=2e-3)  # float32 sums of up to 12 points, times 8
