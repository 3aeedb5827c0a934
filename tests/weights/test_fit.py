"""Fitting of weights into another detector: loaded layers, and layers that stay unchanged."""

import jax
import numpy as np
import pytest

from tests.weights.networks import P2_ANCHORS, detector, drawn, same
from ugs_jax import losses
from ugs_jax.detectors import COCO_ANCHORS, TPH
from ugs_jax.objectives import DFL, UGS, BoxRegression, Grid
from ugs_jax.weights import fit_weights, load_weights, read_weights, weights_of, write_weights
from ugs_jax.weights.fit import _Fitting
from ugs_jax.weights.layouts import flat_leaves
from ugs_jax.weights.weights import published_arrays


def fitted(source, target):
    """Weights, fresh and new leaves by path, and the report."""
    weights = weights_of(source, *drawn(source, 1), origin="some weights")
    params, stats = drawn(target, 2)
    new_params, new_stats, report = fit_weights(weights, target, params, stats)
    fresh = {**flat_leaves(params), **flat_leaves(stats)}
    new = {path: np.asarray(leaf) for path, leaf in {**flat_leaves(new_params), **flat_leaves(new_stats)}.items()}
    assert {path: leaf.shape for path, leaf in new.items()} == {path: leaf.shape for path, leaf in fresh.items()}
    assert set(report.loaded) | set(report.initialised) == set(new)
    for path in set(report.initialised) - set(report.loaded):
        np.testing.assert_array_equal(new[path], fresh[path])
    return weights.arrays, fresh, new, report


def layers(paths):
    return {"/".join(path.split("/")[:3]) for path in paths}


def test_the_same_detector_gets_everything():
    source, _, new, report = fitted(detector(), detector())
    assert not report.initialised
    assert not report.unused
    assert not report.notes
    assert all(np.array_equal(new[path], source[path]) for path in new)
    assert report.lines() == ["some weights: 297 of 297 arrays loaded"]


def test_with_other_classes_only_objectness_is_loaded_into_the_score_layer():
    source, fresh, new, report = fitted(detector(classes=3), detector(classes=5))
    assert layers(report.initialised) == {f"heads/{level}/score" for level in range(3)}
    for level in range(3):
        for kind in ("kernel", "bias"):
            path = f"heads/{level}/score/{kind}"
            columns = new[path].reshape(*new[path].shape[:-1], 3, 6)
            theirs = source[path].reshape(*source[path].shape[:-1], 3, 4)
            np.testing.assert_array_equal(columns[..., 0], theirs[..., 0])
            np.testing.assert_array_equal(columns[..., 1:], fresh[path].reshape(columns.shape)[..., 1:])
    assert "initialised: heads/0/score: 5 classes here, 3 in the weights; objectness was loaded" in report.lines()


@pytest.mark.parametrize(
    ("source", "target"), [(UGS(), DFL()), (DFL(), UGS()), (UGS(), BoxRegression()), (DFL(), BoxRegression())]
)
def test_a_head_that_localizes_otherwise_keeps_its_own_layer(source, target):
    *_, report = fitted(detector(localization=source), detector(localization=target))
    assert layers(report.initialised) == {f"heads/{level}/localize" for level in range(3)}
    for reason in report.initialised.values():
        assert reason.startswith((type(target).__name__, "["))
    assert layers(report.unused) == set()


@pytest.mark.parametrize(
    ("source", "target", "equal"),
    [
        (UGS(), UGS(um=None, refinement=None), True),
        (UGS(Grid(2.0), Grid(2.0)), UGS(Grid(3.0), Grid(2.0)), False),
        (DFL(), DFL(box_loss=losses.giou, dfl_weight=1.0), True),
        (DFL(bins=8), DFL(bins=8, start=-2), False),
        (BoxRegression(), BoxRegression(losses.nwd), True),
    ],
)
def test_a_localization_layer_is_loaded_if_it_decodes_the_same_however_it_is_trained(source, target, equal):
    *_, report = fitted(detector(localization=source), detector(localization=target))
    assert (not report.initialised) == equal


def test_weights_without_p2_are_loaded_by_level():
    source, _, new, report = fitted(detector(), detector(p2=True))
    assert layers(report.initialised) == {
        *("neck/laterals/2", "neck/tops/2", "neck/downs/0", "neck/bottoms/0"),
        *("heads/0/score", "heads/0/localize"),
    }
    assert set(report.initialised.values()) == {"YOLOv5p has no such layer"}
    assert not report.unused
    # The way down from P3, the block that makes P4, and the head of P3.
    for theirs, ours in (("neck/downs/0", "neck/downs/1"), ("neck/bottoms/0/merge", "neck/bottoms/1/merge")):
        np.testing.assert_array_equal(new[f"{ours}/conv/kernel"], source[f"{theirs}/conv/kernel"])
    np.testing.assert_array_equal(new["heads/1/localize/bias"], source["heads/0/localize/bias"])
    np.testing.assert_array_equal(new["neck/tops/1/merge/norm/var"], source["neck/tops/1/merge/norm/var"])
    assert report.notes == ("anchors: those of the detector are kept; the weights have others",)


def test_layers_of_p2_are_left_out_in_a_network_without_it():
    source, _, new, report = fitted(detector(p2=True), detector())
    assert not report.initialised
    assert layers(report.unused) == {
        *("neck/laterals/2", "neck/tops/2", "neck/downs/0", "neck/bottoms/0"),
        *("heads/0/score", "heads/0/localize"),
    }
    np.testing.assert_array_equal(new["heads/2/score/kernel"], source["heads/3/score/kernel"])
    assert "not used: neck/tops/2: YOLOv5p has no such layer" in report.lines()


def test_yolov5_weights_are_loaded_into_the_common_layers_of_tph_yolov5():
    source, _, new, report = fitted(detector(), detector(p2=True, network=TPH))
    assert "initialised: neck/tops/2: YOLOv5p has no such layer" in report.lines()
    chains = {path for path in new if path.startswith("neck/bottoms/1/chain")}
    assert chains < set(report.initialised)
    # It joins the backbone's map of 64 channels, too.
    assert report.initialised["neck/bottoms/1/enter/conv/kernel"] == "[128, 32] here, [64, 32] in the weights"
    backbone = {path for path in new if path.startswith("backbone")}
    assert backbone < set(report.loaded)
    np.testing.assert_array_equal(new["neck/bottoms/2/merge/conv/kernel"], source["neck/bottoms/1/merge/conv/kernel"])


@pytest.mark.slow
def test_the_published_x_network_is_loaded_into_the_backbone_and_parts_of_the_neck_of_tph_yolov5_x():
    """By shapes alone: arrays of bytes that share one, which take no memory before they are copied."""
    blank = lambda tree: jax.tree.map(lambda leaf: np.broadcast_to(np.int8(0), leaf.shape), tree)  # noqa: E731
    source, target = detector("x", classes=80), detector("x", p2=True, classes=10, network=TPH, anchors=FOUR_A_CELL)
    weights = weights_of(source, *blank(source.shapes()), origin="yolov5x")
    assert weights.num_parameters == 86_749_405
    fitting = _Fitting(weights, target, {})
    params, stats = (flat_leaves(blank(tree)) for tree in target.shapes())
    for path, leaf in (params | stats).items():
        fitting.array(path, leaf)
    loaded = set(fitting.loaded)
    assert {path for path in params | stats if path.startswith("backbone/")} < loaded
    assert layers(fitting.initialised) == {
        *(f"heads/{level}/{part}" for level in range(4) for part in ("score", "localize")),
        *("neck/laterals/2", "neck/tops/2", "neck/downs/0"),
        *(f"neck/bottoms/{level}" for level in range(3)),
    }
    assert sum(leaf.size for leaf in params.values()) == 86_549_055
    heads, chains = 255 * (320 + 640 + 1280 + 3), 4 * (10 * (320**2 + 640**2) + 4 * (320 + 640))
    joined = 2 * 640 * 320  # the way to P4 takes the backbone's map in, too
    assert sum(params[path].size for path in loaded & params.keys()) == 86_749_405 - heads - chains - joined


FOUR_A_CELL = tuple((level[0], *level) for level in P2_ANCHORS)


def test_a_file_says_its_kind_and_a_state_dict_is_of_yolov5_only(tmp_path):
    network = detector(p2=True, network=TPH)
    weights = weights_of(network, *drawn(network, 1), origin="a run")
    write_weights(tmp_path / "tph.safetensors", weights)
    assert read_weights(tmp_path / "tph.safetensors").arch.network is TPH
    with pytest.raises(
        ValueError, match=r"a run: expected YOLOv5 v6 or v7, .* or YOLO26, got TPH-YOLOv5p, whose layers"
    ):
        published_arrays(weights)


def test_another_number_of_anchors_keeps_the_whole_head():
    four = tuple((*level, (50.0, 50.0)) for level in COCO_ANCHORS)
    *_, report = fitted(detector(), detector(anchors=four))
    heads = {f"heads/{level}/{part}" for level in range(3) for part in ("score", "localize")}
    assert layers(report.initialised) == heads
    assert set(report.initialised.values()) == {"4 anchors here, 3 in the weights"}


def test_another_size_is_an_error_that_names_both(tmp_path):
    source, target = detector("p"), detector("n")
    path = tmp_path / "small.safetensors"
    write_weights(path, weights_of(source, *drawn(source, 0), origin="a run"))
    with pytest.raises(
        ValueError, match=r"small\.safetensors, from a run: expected weights of YOLOv5n, got those of YOLOv5p; give"
    ):
        load_weights(path, target, *drawn(target, 0))


def test_fresh_parameters_are_not_changed():
    network = detector()
    params, stats = drawn(network, 2)
    fit_weights(weights_of(network, *drawn(network, 1)), network, params, stats)
    assert same((params, stats), drawn(network, 2))
