"""P2 beside the bottom-up path: the network starts with the features of published weights without P2."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import ugs_jax
from tests.weights.networks import P2_ANCHORS, detector, drawn, same
from ugs_jax.detectors import TPH, Architecture, YOLOv5, YOLOv8
from ugs_jax.detectors.yolo26 import YOLO26
from ugs_jax.detectors.yolov8 import YOLO11
from ugs_jax.experiment import Network
from ugs_jax.weights import fit_weights, read_weights, weights_of, write_weights
from ugs_jax.weights.weights import published_arrays

ONE_A_CELL = tuple(level[:1] for level in P2_ANCHORS)


def network_of(network, p2=True, p2_joins=False):
    anchors = P2_ANCHORS if network is YOLOv5 else ONE_A_CELL
    return detector(p2=p2, network=network, anchors=anchors if p2 else anchors[1:], p2_joins=p2_joins)


def layers(paths):
    return {"/".join(path.split("/")[: 2 if path.startswith("heads") else 3]) for path in paths}


@pytest.mark.parametrize("network", [YOLOv5, YOLOv8, YOLO11, YOLO26])
def test_weights_without_p2_give_the_same_features_and_only_p2_is_fresh(network):
    published, ours = network_of(network, p2=False), network_of(network)
    given = drawn(published, 1)
    params, stats, report = fit_weights(weights_of(published, *given), ours, *drawn(ours, 2))
    laterals = {"neck/laterals/2"} if network is YOLOv5 else set()
    assert layers(report.initialised) == {"heads/0", "neck/tops/2", *laterals}
    assert not report.unused
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    want, _ = published.apply(*given, images, train=False)
    got, _ = ours.apply(params, stats, images, train=False)
    assert [level.features.shape[1] for level in got.levels] == [16, 8, 4, 2]
    for one, other in zip(got.levels[1:], want.levels, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)  # features and scores


def test_weights_go_to_the_networks_with_a_joining_p2_and_without_it_by_level():
    beside, joining, without = network_of(YOLOv5), network_of(YOLOv5, p2_joins=True), network_of(YOLOv5, p2=False)
    weights = weights_of(beside, *drawn(beside, 1))
    *_, report = fit_weights(weights, joining, *drawn(joining, 2))
    assert layers(report.initialised) == {"neck/downs/0", "neck/bottoms/0"}
    *_, report = fit_weights(weights, without, *drawn(without, 2))
    assert not report.initialised
    params, _, report = fit_weights(weights_of(joining, *drawn(joining, 1)), beside, *drawn(beside, 2))
    assert not report.initialised
    assert layers(report.unused) == {"neck/downs/0", "neck/bottoms/0"}
    assert same(params["neck"]["downs"][0], drawn(joining, 1)[0]["neck"]["downs"][1])  # from P3 down


def test_a_file_keeps_it_and_the_loaded_model_has_it(tmp_path):
    network = network_of(YOLOv5)
    weights = weights_of(network, *drawn(network, 1), classes=("a", "b", "c"), origin="a test")
    write_weights(tmp_path / "file.safetensors", weights)
    assert read_weights(tmp_path / "file.safetensors").arch == weights.arch
    model = ugs_jax.load(tmp_path / "file.safetensors", image_size=64)
    assert model.detector.full_arch == weights.arch
    assert same((model.params, model.stats), drawn(network, 1))


def test_it_has_no_published_form():
    network = network_of(YOLOv5)
    with pytest.raises(ValueError, match=r"a run: expected a network whose P2 joins .*, got YOLOv5p\+P2; write safe"):
        published_arrays(weights_of(network, *drawn(network, 0), origin="a run"))


def test_a_network_that_was_published_with_p2_only_refuses_it():
    with pytest.raises(ValueError, match="expected p2_joins=True, got False: tph was published with P2 only"):
        Architecture("n", True, 3, P2_ANCHORS, network=TPH, p2_joins=False)
    with pytest.raises(ValueError, match="set p2_joins=True"):
        Network(kind="tph", p2_joins=False)


def test_the_config_has_it_and_without_p2_it_changes_nothing():
    network = Network(p2_joins=False)
    assert str(network) == "YOLOv5n+P2"
    assert network.build(3, P2_ANCHORS, ugs_jax.objectives.BoxRegression()).arch.beside == 1
    assert str(replace(network, p2=False)) == "YOLOv5n"
    plain, changed = network_of(YOLOv5, p2=False, p2_joins=True), network_of(YOLOv5, p2=False)
    assert str(plain.shapes()) == str(changed.shapes())
