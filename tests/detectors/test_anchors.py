"""Anchors fitted to sizes: good enough for the assignment, deterministic, sensible for degenerate data."""

from dataclasses import replace

import numpy as np
import pytest

from data_pipeline import Example, dataset_from_examples
from tests.training.toy import toy_experiment
from ugs_jax.detectors import COCO_ANCHORS, auto_anchors, best_possible_recall, fit_anchors
from ugs_jax.experiment import Network, anchors_for


def aerial(count=5000, seed=0):
    """Sides of mostly small objects, log-normal with aspect ratios up to about 4."""
    rng = np.random.default_rng(seed)
    area, aspect = rng.normal(np.log(16), 0.7, count), rng.normal(0, 0.35, count)
    return np.exp(np.stack([area + aspect, area - aspect], -1)).astype(np.float32)


P3_TO_P5, P2_TO_P5 = (8, 16, 32), (4, 8, 16, 32)


@pytest.mark.parametrize("strides", [P3_TO_P5, P2_TO_P5])
def test_nearly_all_boxes_have_an_anchor(strides):
    assert best_possible_recall(aerial(), fit_anchors(aerial(), strides=strides)) >= 0.98


def test_anchors_follow_the_data_better_than_the_published_ones():
    sizes = aerial() / 3
    assert (
        best_possible_recall(sizes, fit_anchors(sizes, strides=P3_TO_P5))
        > best_possible_recall(sizes, COCO_ANCHORS) + 0.1
    )


def test_anchors_lie_on_the_level_that_suits_their_size():
    """√area under 4 strides, and on all but the finest not under 4 strides of the level before."""
    anchors = np.array(fit_anchors(aerial(), strides=P2_TO_P5, per_level=2))
    assert anchors.shape == (4, 2, 2)
    size = np.sqrt(anchors.prod(axis=-1))
    assert np.all(size[:3] < 4 * np.array(P2_TO_P5[:3])[:, None])
    assert np.all(size[1:] >= 4 * np.array(P2_TO_P5[:3])[:, None] * 0.999)  # rounded to 0.1 px
    assert np.all(np.diff(size.ravel()) > 0)


def test_a_level_without_boxes_gets_squares_of_its_own_size():
    finest, *coarser = fit_anchors(np.array([[5.0, 9.0], [6.0, 6.0], [9.0, 8.0]] * 20), strides=P2_TO_P5)
    assert max(max(pair) for pair in finest) < 16
    assert coarser == [((16, 16), (22, 22), (28, 28)), ((32, 32), (44, 44), (56, 56)), ((64, 64), (88, 88), (112, 112))]


def test_the_same_data_and_seed_give_the_same_anchors():
    assert fit_anchors(aerial(), strides=P3_TO_P5) == fit_anchors(aerial().copy(), strides=P3_TO_P5)


def test_separate_clusters_are_found():
    centers = np.array([[4, 4], [10, 20], [40, 30]], np.float64)
    sizes = np.repeat(centers, 50, axis=0) * np.exp(np.random.default_rng(0).normal(0, 0.01, (150, 2)))
    (anchors,) = fit_anchors(sizes, strides=(8,))
    np.testing.assert_allclose(anchors, centers, rtol=0.02)


@pytest.mark.parametrize(
    "sizes",
    [
        np.array([[8.0, 6.0]]),
        np.array([[8.0, 6.0]] * 500),
        np.array([[8.0, 6.0]] * 500 + [[300.0, 200.0]]),
        np.array([[2.0, 2.0], [9000.0, 9000.0]]),
        np.array([[8.0, 6.0], [np.nan, 3.0], [np.inf, 3.0], [0.0, 5.0], [-3.0, -3.0], [0.5, 4.0]]),
    ],
    ids=["one box", "all the same", "one outlier", "two extremes", "rows to leave out"],
)
def test_degenerate_sizes_give_usable_anchors(sizes):
    anchors = np.array(fit_anchors(sizes, strides=P3_TO_P5))
    assert anchors.shape == (3, 3, 2)
    assert np.all(np.isfinite(anchors))
    assert np.all(anchors > 0)
    kept = sizes[np.all(np.isfinite(sizes) & (sizes >= 2), axis=-1)]
    assert best_possible_recall(kept, fit_anchors(sizes, strides=P3_TO_P5)) == 1.0


def test_too_few_sizes_give_distinct_anchors():
    anchors = [pair for level in fit_anchors(np.array([[20.0, 10.0]]), strides=P3_TO_P5) for pair in level]
    assert len(set(anchors)) == 9


def test_anchors_of_tiny_boxes_are_not_rounded_to_nothing():
    anchors = np.array(fit_anchors(np.full((20, 2), 0.02), strides=(8,), min_side=0.01))
    assert np.all(anchors == 0.1)


@pytest.mark.parametrize("sizes", [np.zeros((0, 2)), np.ones((5, 2)), np.full((5, 2), np.nan)])
def test_no_usable_box_is_an_error_that_says_so(sizes):
    with pytest.raises(ValueError, match=r"both sides >= 2.0 px .* got none; use larger images, or give `anchors`"):
        fit_anchors(sizes, strides=P3_TO_P5)


def test_recall_counts_boxes_within_the_limit_in_both_sides():
    anchors = (((10.0, 10.0),),)
    sizes = np.array([[10.0, 10.0], [39.0, 2.6], [41.0, 10.0], [10.0, 2.4], [0.0, 10.0], [np.nan, 10.0]])
    assert best_possible_recall(sizes, anchors) == pytest.approx(2 / 6)
    assert best_possible_recall(sizes[:4], anchors, anchor_ratio_threshold=5.0) == 1.0
    assert best_possible_recall(sizes[:0], anchors) == 1.0


def test_auto_anchors_keep_anchors_that_are_good_enough():
    assert auto_anchors(aerial() * 4, COCO_ANCHORS) is COCO_ANCHORS
    assert auto_anchors(aerial() * 4, COCO_ANCHORS, keep=False, generations=10) != COCO_ANCHORS
    assert auto_anchors(np.array([[3.0, 3.0]] * 50), COCO_ANCHORS, keep=False) is COCO_ANCHORS  # nothing to cluster


def test_auto_anchors_reach_nearly_all_boxes_and_are_assigned_to_levels_by_area():
    sizes = aerial(1000) / 2
    found = auto_anchors(sizes, COCO_ANCHORS, generations=100)
    assert best_possible_recall(sizes, found) > 0.98 > best_possible_recall(sizes, COCO_ANCHORS)
    assert [len(level) for level in found] == [3, 3, 3]
    areas = np.array(found).prod(-1).ravel()
    assert np.all(np.diff(areas) >= -0.1 * areas[:-1])  # sides are rounded to 0.1 px
    assert found == auto_anchors(sizes, COCO_ANCHORS, generations=100)
    assert np.array(found).min() >= 2


def test_auto_anchors_give_anchors_below_its_stride_to_the_coarsest_level_and_fitted_ones_do_not():
    sizes = aerial(1000) / 2
    auto, fitted = auto_anchors(sizes, COCO_ANCHORS, generations=100), fit_anchors(sizes, strides=P3_TO_P5)
    smallest = lambda level: np.sqrt(np.array(level).prod(-1)).min()  # noqa: E731
    assert smallest(auto[-1]) < 32 <= smallest(fitted[-1])


@pytest.mark.parametrize("kind", ["yolov5", "tph", "tph_cbam", "tph_plus"])
def test_auto_anchors_of_a_config_are_as_many_as_its_network_has_in_a_cell(kind):
    sizes = aerial(60)
    boxes = np.concatenate([np.full((60, 2), 2.0), 2 + sizes], axis=1).astype(np.float32)
    example = Example(b"", boxes, np.zeros(60, np.int32), np.zeros((0, 4), np.float32), 0, "0.png", 256, 256)
    dataset = dataset_from_examples([example], ("a",))
    levels, count = (3 if kind == "tph_plus" else 4), (4 if kind in ("tph", "tph_cbam") else 3)
    experiment = replace(
        toy_experiment(network=Network("p", p2=levels == 4, kind=kind, anchor_fit="auto")),
        loader=replace(toy_experiment().loader, image_size=(256, 256)),
    )
    found = anchors_for(experiment, dataset)
    assert np.shape(found) == (levels, count, 2)
    areas = np.prod(found, axis=-1).ravel()
    assert np.all(np.diff(areas) >= -0.1 * areas[:-1])  # dealt out by area; sides are rounded to 0.1 px
    assert best_possible_recall(sizes, found) > 0.95


@pytest.mark.parametrize("p2", [False, True])
@pytest.mark.parametrize("method", ["levels", "auto"])
def test_a_network_without_anchors_gets_one_size_for_each_level(method, p2):
    sizes = np.random.default_rng(0).uniform(3, 300, (400, 2))
    network = Network("p", p2=p2, kind="yolov8", anchor_fit=method)
    found = network.fit_anchors(sizes, anchor_ratio_threshold=4.0, seed=0)
    assert [len(level) for level in found] == [1] * len(network.strides)
    areas = [w * h for ((w, h),) in found]
    assert areas == sorted(areas)
    assert min(areas) > 9
