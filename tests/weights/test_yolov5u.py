"""YOLOv5u: counts and names of the published family, the layers it shares with YOLOv5 and YOLOv8, and its files."""

import math

import jax
import numpy as np
import pytest

import ugs_jax
from tests.detectors.test_yolov8 import architecture
from tests.weights.networks import P2_ANCHORS, detector, drawn, same
from ugs_jax.detectors import TPH, YOLOv5, YOLOv5u, YOLOv8
from ugs_jax.experiment import Network
from ugs_jax.objectives import DFL, UGS, BoxRegression, SideUGS
from ugs_jax.weights import fit_weights, published_arrays, read_weights, torch_bytes, weights_of
from ugs_jax.weights.published_yolov8 import architecture_of, published_shapes

# Parameters of the public networks with 80 classes, without the 16 fixed points of their DFL layer, from logs of the
# public trainer. Of x, no log was found: its millions, 97.2, are from the publisher's table.
PUBLISHED = {"n": 2_654_800, "s": 9_153_136, "m": 25_111_440}
OF_ONE_CLASS = {"n": 2_508_643, "s": 9_122_563}
MILLIONS = {"n": 2.6, "s": 9.1, "m": 25.1, "l": 53.2, "x": 97.2}
ONE_A_CELL = tuple(level[:1] for level in P2_ANCHORS)


def network_of(network=YOLOv5u, p2=False, localization=None, **settings):
    anchors = P2_ANCHORS if network.has_objectness else ONE_A_CELL
    anchors = anchors if p2 else anchors[1:]
    return detector(p2=p2, network=network, anchors=anchors, localization=localization or DFL(), **settings)


def learned(shapes):
    return sum(math.prod(shape) for name, shape in shapes.items() if "running" not in name)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", MILLIONS)
def test_parameters_are_as_many_as_in_the_published_networks(size):
    count = learned(published_shapes(architecture(YOLOv5u, size, False, 80, num_outputs=64)))
    assert math.floor(count / 1e5) / 10 == MILLIONS[size]
    if size in PUBLISHED:
        assert count == PUBLISHED[size]
    if size in OF_ONE_CLASS:
        one = published_shapes(architecture(YOLOv5u, size, False, 1, num_outputs=64))
        assert learned(one) == OF_ONE_CLASS[size]


def test_names_are_those_of_yolov5_up_to_the_head_of_yolov8():
    shapes = published_shapes(architecture(YOLOv5u, "n", False, 1, num_outputs=64))
    assert shapes["model.0.conv.weight"] == (16, 3, 6, 6)
    assert shapes["model.23.cv3.conv.weight"] == (256, 256, 1, 1)
    assert shapes["model.24.cv2.0.0.conv.weight"] == (64, 64, 3, 3)
    assert shapes["model.24.cv3.2.1.conv.weight"] == (64, 64, 3, 3)
    assert shapes["model.24.cv2.1.2.bias"] == (64,)
    counted = len([name for name in shapes if name.endswith(".running_var")])  # one num_batches_tracked each
    assert len(shapes) + counted + 1 == 427  # as a log of the public trainer says; 1 for the points of DFL
    found = architecture_of(shapes, frozenset())
    assert (found.network, found.size, found.p2, found.classes) == (YOLOv5u, "n", False, 1)
    assert found.name == "YOLOv5nu"


@pytest.mark.parametrize("p2", [False, True])
def test_a_state_dict_comes_back_to_the_bit(p2, tmp_path):
    network = network_of(p2=p2)
    weights = weights_of(network, *drawn(network, 1), classes=("a", "b", "c"), origin="a test")
    (tmp_path / "weights.pt").write_bytes(torch_bytes(published_arrays(weights)))
    found = read_weights(tmp_path / "weights.pt")
    assert (found.arch.network, found.arch.size, found.arch.p2, found.decoding) == (YOLOv5u, "p", p2, DFL().decoding)
    assert found.arrays.keys() == weights.arrays.keys()
    assert all(np.array_equal(found.arrays[path], array) for path, array in weights.arrays.items())
    model = ugs_jax.load(tmp_path / "weights.pt", image_size=64)
    assert model.detector.full_arch == found.arch


@pytest.mark.parametrize("localization", [BoxRegression(), UGS()])
def test_weights_of_yolov5_are_loaded_up_to_the_heads_and_give_its_features(localization):
    published, ours = network_of(YOLOv5, localization=BoxRegression()), network_of(localization=localization)
    given, fresh = drawn(published, 1), ours.init(2)
    params, stats, report = fit_weights(weights_of(published, *given, origin="a file"), ours, *fresh)
    assert {path.split("/")[0] for path in report.initialised} == {"heads"}
    assert {path.split("/")[0] for path in report.unused} <= {"heads"}
    assert "initialised: heads/0/score: heads of YOLOv5p are of another kind" in report.lines()
    assert same(params["heads"], fresh[0]["heads"])
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    features = tuple(level.features for level in published.apply(*given, images, train=False)[0].levels)
    want, (got, _) = ours.apply_heads(params, stats, features), ours.apply(params, stats, images, train=False)
    jax.tree.map(np.testing.assert_array_equal, got.levels, want.levels)


def test_the_heads_are_those_of_yolov8():
    (ours, _), (theirs, _) = (network_of(network).shapes() for network in (YOLOv5u, YOLOv8))
    assert str(ours["heads"]) == str(theirs["heads"])


def test_weights_of_yolov5u_are_loaded_into_yolov5_up_to_the_heads():
    published, ours = network_of(), network_of(YOLOv5, localization=BoxRegression())
    *_, report = fit_weights(weights_of(published, *published.init(0)), ours, *drawn(ours, 1))
    assert {path.split("/")[0] for path in report.initialised} == {"heads"}
    assert report.lines()[-1] == (
        "heads: they start fresh; those of YOLOv5pu fit networks of kind yolov5u (Network.kind)"
    )


def test_sides_start_from_its_published_distributions_and_p2_can_stand_beside():
    published = network_of()
    weights = weights_of(published, *published.init(0))
    ours = network_of(p2=True, localization=SideUGS(), p2_joins=False)
    *_, report = fit_weights(weights, ours, *ours.init(1))
    assert "heads/1/localize/kernel" in report.loaded
    fresh = {"/".join(path.split("/")[: 2 if path.startswith("heads") else 3]) for path in report.initialised}
    assert fresh == {"heads/0", "neck/laterals/2", "neck/tops/2"}


@pytest.mark.parametrize(("given", "wanted"), [(YOLOv5, YOLOv8), (YOLOv5u, YOLOv8), (YOLOv8, YOLOv5u)])
def test_weights_of_another_family_are_refused(given, wanted):
    """Heads of YOLOv5u and YOLOv8 have the same layers, but what comes before them has not."""
    match = f"expected weights of {wanted.title}p.*, got those of {given.title}p.* kind {given.name}$"
    with pytest.raises(ValueError, match=match):
        fit_weights(weights_of(network_of(given), {}, {}), network_of(wanted), {}, {})


def test_tph_takes_the_backbone_of_yolov5u():
    published, ours = network_of(p2=True), network_of(TPH, p2=True, localization=BoxRegression())
    *_, report = fit_weights(weights_of(published, *published.init(0)), ours, *ours.init(1))
    assert any(path.startswith("backbone/blocks/3") for path in report.loaded)
    assert not any(path.startswith("heads/") for path in report.loaded)


def test_a_linear_first_convolution_of_the_pool_is_refused():
    shapes = published_shapes(architecture(YOLOv5u, "p", classes=3, num_outputs=64))
    with pytest.raises(ValueError, match=r"model\.9\.cv1: expected SiLU as its activation, got none; a YOLOv5u"):
        architecture_of(shapes, frozenset({"model.9.cv1"}))


def test_a_stem_of_another_width_is_named():
    shapes = published_shapes(architecture(YOLOv5u, "p", classes=3, num_outputs=64))
    shapes["model.0.conv.weight"] = (13, 3, 6, 6)
    with pytest.raises(
        ValueError, match=r"expected YOLOv5u, whose .* is \[channels, 3, 6, 6\] .*, got \[13, 3, 6, 6\]"
    ):
        architecture_of(shapes, frozenset())


def test_a_config_has_it():
    network = Network(kind="yolov5u", p2=False)
    assert str(network) == "YOLOv5nu"
    assert len(network.fit_anchors(np.full((50, 2), 12.0), anchor_ratio_threshold=4.0, seed=0)[0]) == 1
