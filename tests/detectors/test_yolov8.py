"""YOLOv8 and YOLO11: sizes of the published families, equal outputs and detections, blocks beside loops in NumPy."""

import dataclasses
import functools
import lzma
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.flags import QUICKLY
from ugs_jax.boxes import Anchors, xyxy_to_cxcywh
from ugs_jax.detectors import YOLO11, Architecture, Detector, Postprocess, YOLOv8, class_scores, localize
from ugs_jax.detectors.blocks_c2f import Attention, Bottleneck, C2f, C3k
from ugs_jax.objectives import DFL, UGS
from ugs_jax.weights import fit_weights, read_weights

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures/anchor_free"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no parity fixtures at {FIXTURES}")

# Parameters of the public networks with 80 and with 10 classes, without the 16 fixed points of their DFL layer:
# ANCHOR_FREE_FACTS, section C.
PUBLISHED = {
    (YOLOv8, "n", False): (3_157_184, 3_012_782),
    (YOLOv8, "s", False): (11_166_544, 11_139_454),
    (YOLOv8, "m", False): (25_902_624, 25_862_094),
    (YOLOv8, "l", False): (43_691_504, 43_637_534),
    (YOLOv8, "x", False): (68_229_632, 68_162_222),
    (YOLOv8, "n", True): (3_354_128, 2_927_864),
    (YOLOv8, "s", True): (10_884_320, 10_639_560),
    (YOLOv8, "m", True): (25_082_480, 25_055_320),
    (YOLOv8, "l", True): (42_888_064, 42_851_944),
    (YOLOv8, "x", True): (66_637_520, 66_592_440),
    (YOLO11, "n", False): (2_624_064, 2_591_774),
    (YOLO11, "s", False): (9_458_736, 9_431_646),
    (YOLO11, "m", False): (20_114_672, 20_060_702),
    (YOLO11, "l", False): (25_372_144, 25_318_174),
    (YOLO11, "x", False): (56_966_160, 56_885_310),
}


def architecture(network=YOLOv8, size="n", p2=False, classes=10, **settings):
    anchors = tuple(((2.0 * stride, 2.0 * stride),) for stride in ((4, 8, 16, 32) if p2 else (8, 16, 32)))
    return Architecture(size, p2, classes, anchors, network=network, **settings)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("network", "size", "p2"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(network, size, p2):
    counts = [Detector(architecture(network, size, p2, classes), DFL()).num_parameters() for classes in (80, 10)]
    assert tuple(counts) == PUBLISHED[network, size, p2]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("network", [YOLOv8, YOLO11])
def test_interval_outputs_change_only_the_localizers(network):
    """The box branch of n has 64 channels at each of the three levels, whatever the objective predicts."""
    count = Detector(architecture(network), UGS()).num_parameters()
    assert count - PUBLISHED[network, "n", False][1] == 3 * (UGS().num_outputs - 64) * (64 + 1)


@pytest.mark.slow
@pytest.mark.parametrize("network", [YOLOv8, YOLO11])
@pytest.mark.parametrize("p2", [False, True])
def test_each_level_has_one_anchor_per_cell_and_no_objectness(network, p2):
    detector = Detector(architecture(network, "p", p2, classes=3), UGS())
    outputs, _ = _run(detector, *detector.init(0), np.zeros((2, 64, 96, 3), np.uint8))
    for level, localizer, stride in zip(outputs.levels, outputs.localizers, detector.arch.strides, strict=True):
        assert level.objectness is None
        assert level.classes.shape == (2, 64 // stride, 96 // stride, 1, 3)
        assert localizer.kernel.shape[1:] == (1, UGS().num_outputs)
        assert np.isfinite(level.classes).all()
        np.testing.assert_allclose(class_scores(level), 1 / (1 + np.exp(-np.asarray(level.classes))), rtol=1e-6)


@pytest.mark.slow
def test_half_precision_agrees_with_single_precision():
    single, half = (Detector(architecture(YOLO11, "p", classes=3, dtype=d), DFL()) for d in ("float32", jnp.bfloat16))
    params, stats = single.init(1)
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    (one, _), (other, _) = (_run(detector, params, stats, images) for detector in (single, half))
    for a, b in zip(one.levels, other.levels, strict=True):
        assert b.features.dtype == jnp.bfloat16
        assert b.classes.dtype == jnp.float32
        np.testing.assert_allclose(a.classes, b.classes, atol=0.02)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICKLY)
def _run(detector, params, stats, images):
    return detector.apply(params, stats, images, train=False)


def published(name):
    """The file of a fixture, as torch wrote it, and what the public network makes of an image."""
    path = FIXTURES / f"{name}.pt"
    return path, np.load(FIXTURES / f"{name.removesuffix('.state_dict')}_parity.npz")


def plain(path, folder):
    if path.is_file():
        return path
    opened = folder / path.name
    opened.write_bytes(lzma.decompress(path.with_name(f"{path.name}.xz").read_bytes()))
    return opened


def computed(weights, objective, expected):
    """In float64, raw outputs of every level, and boxes (cxcywh) and scores of all cells, for a fixture's images."""
    detector = Detector(weights.arch, objective)
    params, stats, report = fit_weights(weights, detector, *detector.init(0))
    assert not report.initialised
    assert not report.unused
    with jax.enable_x64(True):
        exact = Detector(dataclasses.replace(weights.arch, dtype=jnp.float64), objective)
        params, stats, images = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64),
            (params, stats, expected["image_nchw"].transpose(0, 2, 3, 1) * 255),
        )
        outputs, _ = _run(exact, params, stats, images)
        return _decoded(weights, objective, outputs)


def _decoded(weights, objective, outputs):
    levels, decoded = [], []
    for level, localizer, stride in zip(outputs.levels, outputs.localizers, weights.arch.strides, strict=True):
        raw = np.asarray(localize(localizer, level.features))[..., 0, :]
        levels.append(np.concatenate([raw, level.classes[..., 0, :]], -1))
        b, h, w = raw.shape[:3]
        center = jnp.stack(jnp.meshgrid(jnp.arange(w) + 0.5, jnp.arange(h) + 0.5), -1) * stride
        center = jnp.broadcast_to(center, (b, h, w, 2))
        unit = jnp.full_like(center, stride)
        boxes = xyxy_to_cxcywh(objective.decode(jnp.asarray(raw), Anchors(center, unit, unit)))
        decoded.append(np.concatenate([boxes, class_scores(level)[..., 0, :]], -1).reshape(b, h * w, -1))
    return levels, np.concatenate(decoded, 1)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["yolov8n_nc10", "yolo11n_nc10", "yolov8n-p2_nc10", "yolo11n_nc10.state_dict"])
def test_imported_networks_have_the_outputs_of_the_public_ones(name, tmp_path):
    path, expected = published(name)
    weights = read_weights(plain(path, tmp_path))
    assert weights.num_parameters == int(expected["param_count"]) - 16
    levels, decoded = computed(weights, DFL(), expected)
    for i, raw in enumerate(levels):
        want = expected[f"raw_p{i}"].transpose(0, 2, 3, 1)
        # The fixtures are float32. Without rounding of ours, 7.7e-4 is left, of magnitudes from 7 to 15.
        np.testing.assert_allclose(raw, want, rtol=0, atol=8e-4)
    want = expected["decoded"].transpose(0, 2, 1)
    # px: 1.5e-3 strides, the raw tolerance, of 32 px
    np.testing.assert_allclose(decoded[..., :4], want[..., :4], atol=5e-2)
    np.testing.assert_allclose(decoded[..., 4:], want[..., 4:], atol=1e-3)


@needs_fixtures
@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_detections_are_the_best_of_the_public_network(tmp_path):
    path, expected = published("yolov8n_nc10")
    weights = read_weights(plain(path, tmp_path))
    detector = Detector(weights.arch, DFL())
    params, stats, _ = fit_weights(weights, detector, *detector.init(0))
    images = np.round(expected["image_nchw"].transpose(0, 2, 3, 1) * 255)
    found = detector.detect(params, stats, images, Postprocess(pre_nms_topk=100, max_detections=50))
    best = expected["decoded"][:, 4:].max(axis=(1, 2))
    np.testing.assert_allclose(found.scores[:, 0], best, atol=5e-3)  # images were rounded to whole numbers


def test_attention_is_that_of_loops_over_heads_and_cells():
    block = Attention(128, rngs=nnx.Rngs(0))
    block.eval()
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 128)).astype(np.float32)
    qkv = np.asarray(block.qkv(jnp.asarray(x))).reshape(6, 2, 128)  # cells, heads, (32 queries, 32 keys, 64 values)
    mixed = np.zeros((6, 128), np.float32)
    for head in range(2):
        query, key, value = qkv[:, head, :32], qkv[:, head, 32:64], qkv[:, head, 64:]
        for cell in range(6):
            weight = np.exp(key @ query[cell] / np.sqrt(32))
            mixed[cell, head * 64 : (head + 1) * 64] = weight @ value / weight.sum()
    values = jnp.asarray(qkv[:, :, 64:].reshape(1, 2, 3, 128))
    want = block.project(jnp.asarray(mixed.reshape(1, 2, 3, 128)) + block.position(values))
    np.testing.assert_allclose(block(jnp.asarray(x)), want, atol=1e-5)


def test_position_is_told_channel_by_channel():
    block = Attention(64, rngs=nnx.Rngs(0))
    assert block.position.conv.kernel.shape == (3, 3, 1, 64)
    assert not block.position.act


def test_c2f_concatenates_both_halves_and_the_output_of_every_block():
    block = C2f(6, 10, 4, 2, lambda c: Bottleneck(c, c, True, rngs=nnx.Rngs(1)), rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 6)), jnp.float32)
    entered = block.enter(x)
    first = entered[..., 4:] + block.chain[0].second(block.chain[0].first(entered[..., 4:]))
    second = first + block.chain[1].second(block.chain[1].first(first))
    want = block.merge(jnp.concatenate([entered[..., :4], entered[..., 4:], first, second], axis=-1))
    np.testing.assert_allclose(block(x), want, atol=1e-6)


def test_c3k_joins_two_bottlenecks_with_a_bypass():
    block = C3k(8, rngs=nnx.Rngs(0))
    block.eval()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 3, 8)), jnp.float32)
    y = block.enter(x)
    for inner in block.chain:
        y = y + inner.second(inner.first(y))
    np.testing.assert_allclose(block(x), block.merge(jnp.concatenate([y, block.bypass(x)], -1)), atol=1e-6)
