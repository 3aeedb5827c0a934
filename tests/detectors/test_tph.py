"""TPH-YOLOv5: parameter counts of the published networks, training of all parameters, seeded randomness."""

import functools
from dataclasses import replace
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.flags import QUICKLY
from ugs_jax.detectors import (
    COCO_ANCHORS,
    TPH,
    TPHCBAM,
    YOLO11,
    YOLO26,
    Architecture,
    Detector,
    Postprocess,
    TPHPlus,
    YOLO11LinearPool,
    YOLOv5,
    YOLOv5u,
    YOLOv8,
    YOLOv8LinearPool,
)
from ugs_jax.detectors.attention import CBAM
from ugs_jax.detectors.blocks import call_block
from ugs_jax.detectors.networks import NETWORKS, name_of_network, network_named
from ugs_jax.detectors.transformer import C3STR, C3TR
from ugs_jax.detectors.yolov5 import _call_block_twice
from ugs_jax.experiment import Network
from ugs_jax.experiment.config import Kind
from ugs_jax.objectives import BoxRegression
from ugs_jax.weights.layouts import flat_leaves

NETWORK_TYPES = (TPH, TPHCBAM, TPHPlus)

# Trainable parameters in size l with 80 and with 10 classes: DETECTOR_FACTS, section H.
PUBLISHED = {
    TPH: (45_999_244, 45_460_524),
    TPHCBAM: (60_993_876, 60_455_156),
    TPHPlus: (41_913_997, 41_563_927),
}


# In size x, with 10 classes. Nobody published one; of tph_cbam others report 112.97 M.
LARGE = {TPH: 86_549_055, TPHCBAM: 112_975_506, TPHPlus: 74_957_435}


def detector_of(network, size="p", classes=3):
    p2 = network is not TPHPlus
    levels = ((6.0, 6.0), (12.0, 10.0), (20.0, 24.0), (60.0, 50.0))[0 if p2 else 1 :]
    anchors = tuple((level,) * network.anchors_per_cell for level in levels)
    return Detector(Architecture(size, p2, classes, anchors, network=network), BoxRegression())


def images(count=2, height=64, width=96):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORK_TYPES)
@pytest.mark.usefixtures("unchecked")
def test_parameter_counts_are_the_published_ones(network):
    counts = [detector_of(network, "l", classes).num_parameters() for classes in (80, 10)]
    assert tuple(counts) == PUBLISHED[network]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORK_TYPES)
@pytest.mark.usefixtures("unchecked")
def test_parameter_counts_of_size_x_are_those_of_the_documentation(network):
    assert detector_of(network, "x", 10).num_parameters() == LARGE[network]


@pytest.mark.parametrize(("network", "name", "count"), [(TPHCBAM, "inward", 4_727_808), (TPH, "offset_bias", 13_500)])
@pytest.mark.usefixtures("unchecked")
def test_layers_that_the_reference_never_trains_are_among_the_parameters(network, name, count):
    """Its optimizer collects what is named weight or bias, and what is named otherwise stays as it was drawn."""
    params, _ = detector_of(network, "l", 10).shapes()
    forgotten = [leaf.size for path, leaf in flat_leaves(params).items() if name in path.split("/")]
    assert sum(forgotten) == count


def test_parameter_counts_of_blocks_are_the_published_ones():
    blocks = {CBAM: ((128,), 2_283), C3TR: ((1024, 1024, 3), 14_172_672), C3STR: ((512, 256, 2), 595_208)}
    for block, (sizes, count) in blocks.items():
        shapes = nnx.eval_shape(lambda block=block, sizes=sizes: block(*sizes, rngs=nnx.Rngs(0)))
        assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(shapes, nnx.Param))) == count


def test_it_detects_without_a_key():
    detector = detector_of(TPH)
    found = jax.eval_shape(lambda p, s: detector.detect(p, s, images(), Postprocess(0.0)), *detector.shapes())
    assert found.boxes.shape == (2, Postprocess().max_detections, 4)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORK_TYPES)
def test_every_parameter_is_trained_and_every_cell_has_an_output(network):
    """TPH-YOLOv5's optimizer forgets those not named weight or bias: projections into attention, biases of windows."""
    detector = detector_of(network)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    @functools.partial(jax.grad, has_aux=True)
    def gradients(params, stats):
        """Of the squares of all outputs."""
        outputs, _ = detector.apply(params, stats, images(), train=True, key=jax.random.key(0))
        raw = [jnp.tensordot(level.features, at.kernel, 1) + at.bias for level, at in zip(*outputs, strict=True)]
        values = [*raw, *(level.objectness for level in outputs.levels), *(level.classes for level in outputs.levels)]
        return sum(jnp.mean(value**2) for value in values), outputs.levels

    found, levels = gradients(*detector.init(0))
    for level, stride in zip(levels, detector.arch.strides, strict=True):
        assert level.objectness.shape == (2, 64 // stride, 96 // stride, network.anchors_per_cell)
        assert level.classes.shape == (*level.objectness.shape, 3)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        # A bias of all keys moves all logits of a query alike, which a softmax does not see.
        if not name.endswith(("inward/1/bias", "between/key/bias")):
            assert np.any(np.asarray(leaf) != 0), name


def test_recomputed_activations_have_the_same_dropout():
    block = C3TR(8, 32, 1, rngs=nnx.Rngs(0))
    graph, *parts = nnx.split(block, nnx.Param, nnx.BatchStat)
    variables = [nnx.to_pure_dict(nnx.as_pure(part)) for part in parts]
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 8)).astype(np.float32)

    def gradient(run, key):
        loss = lambda x, v: jnp.sum(run(nnx.merge(graph, *v), x, jax.random.key(key)) ** 2)  # noqa: E731
        return jax.jit(jax.grad(loss), compiler_options=QUICKLY)(x, variables)

    kept, again, other = gradient(call_block, 0), gradient(_call_block_twice, 0), gradient(call_block, 1)
    np.testing.assert_allclose(again, kept, atol=1e-5 * float(jnp.abs(kept).max()))
    assert float(jnp.abs(other - kept).max()) > 1e-3 * float(jnp.abs(kept).max())


@pytest.mark.usefixtures("unchecked")
def test_a_network_without_the_right_levels_is_refused():
    for build in (
        lambda network, p2: Network(kind=network.name, p2=p2),
        lambda network, p2: replace(detector_of(TPH).arch, network=network, p2=p2),
    ):
        with pytest.raises(ValueError, match=r"expected p2=True, got p2=False: tph has a head at stride 4"):
            build(TPH, p2=False)
        with pytest.raises(ValueError, match=r"expected p2=False, got p2=True: tph_plus has no head at stride 4"):
            build(TPHPlus, p2=True)


@pytest.mark.usefixtures("unchecked")
def test_names_and_classes_of_networks_correspond():
    classes = {"yolov5": YOLOv5, "tph": TPH, "tph_cbam": TPHCBAM, "tph_plus": TPHPlus}
    classes |= {
        "yolov5u": YOLOv5u,
        "yolov8": YOLOv8,
        "yolo11": YOLO11,
        "yolo26": YOLO26,
        "yolov8_linear_pool": YOLOv8LinearPool,
        "yolo11_linear_pool": YOLO11LinearPool,
    }
    assert classes == NETWORKS
    assert set(get_args(Kind)) == set(classes)
    for name, network in classes.items():
        assert network_named(name) is network
        assert name_of_network(network) == name
        assert Network(kind=name, p2=network is not TPHPlus).network_type is network
    with pytest.raises(ValueError, match=r"a kind among yolov5, tph, tph_cbam, tph_plus, yolov5u, .*; got 'tpf'"):
        Network(kind="tpf")


def test_networks_are_displayed_with_size_and_variant():
    names = [str(Network(size, p2, kind=kind)) for kind, size, p2 in DISPLAYED]
    assert names == list(DISPLAYED.values())


DISPLAYED = {
    ("yolov5", "n", False): "YOLOv5n",
    ("yolov5", "s", True): "YOLOv5s-P2",
    ("yolov5u", "n", False): "YOLOv5nu",
    ("tph", "x", True): "TPH-YOLOv5x",
    ("tph_cbam", "l", True): "TPH-YOLOv5l (cbam)",
    ("tph_plus", "l", False): "TPH-YOLOv5l (plus)",
}


def test_a_network_of_a_user_has_no_name_in_files():
    """It would inherit the name of our network, and a file of its weights could not be read."""

    class Mine(YOLOv5):
        pass

    assert Architecture("p", False, 3, COCO_ANCHORS, network=Mine).network is Mine
    with pytest.raises(ValueError, match=r"expected a network of this library \(YOLOv5, TPH, .*, got Mine"):
        name_of_network(Mine)
