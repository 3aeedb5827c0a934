"""YOLOv5: sizes of the published family, equal outputs, and refused arguments."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.flags import QUICKLY
from tests.reference import torch_state_dict
from ugs_jax.boxes import Anchors, xyxy_to_cxcywh
from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, localize
from ugs_jax.detectors.yolov5 import YOLOv5
from ugs_jax.objectives import UGS, BoxRegression

P2_ANCHORS = (((4, 5), (8, 10), (13, 11)), *COCO_ANCHORS)
FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures"

# Trainable parameters of the public networks with 80 and with 10 classes: DETECTOR_FACTS, section H.
PUBLISHED = {
    ("n", False): (1_872_157, 1_777_447),
    ("s", False): (7_235_389, 7_046_599),
    ("m", False): (21_190_557, 20_907_687),
    ("l", False): (46_563_709, 46_186_759),
    ("x", False): (86_749_405, 86_278_375),
    ("n", True): (1_916_604, 1_814_964),
    ("s", True): (7_394_684, 7_192_244),
    ("m", True): (21_627_900, 21_324_660),
    ("l", True): (47_493_372, 47_089_332),
    ("x", True): (88_447_100, 87_942_260),
}


def architecture(size="n", p2=False, classes=10, **settings):
    return Architecture(size, p2, classes, P2_ANCHORS if p2 else COCO_ANCHORS, **settings)


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("size", "p2"), PUBLISHED)
def test_parameter_counts_are_the_published_ones(size, p2):
    counts = [Detector(architecture(size, p2, classes), BoxRegression()).num_parameters() for classes in (80, 10)]
    assert tuple(counts) == PUBLISHED[size, p2]


def test_interval_outputs_widen_only_the_localizers():
    """A further output of each of the 3 anchors costs one weight a channel (64 + 128 + 256 in n) and one bias."""
    count = Detector(architecture(), UGS()).num_parameters()
    assert count - PUBLISHED["n", False][1] == 3 * (UGS().num_outputs - 4) * (64 + 128 + 256 + 3)


def from_published(state, arch):
    """The parameters and statistics of our tree, from the numbered names of the published network.

    Backbone layers 0…9, top-down path 10…17, bottom-up path 18…23, heads 24: DETECTOR_FACTS, section A.
    """

    def kernel(name):
        weight = state[f"{name}.weight"]
        return weight[:, :, 0, 0].T if weight.shape[2:] == (1, 1) else weight.transpose(2, 3, 1, 0)

    def conv(name):
        norm = {"scale": state[f"{name}.bn.weight"], "bias": state[f"{name}.bn.bias"]}
        stats = {"mean": state[f"{name}.bn.running_mean"], "var": state[f"{name}.bn.running_var"]}
        return {"conv": {"kernel": kernel(f"{name}.conv")}, "norm": norm}, {"norm": stats}

    def join(**parts):
        return {key: part[0] for key, part in parts.items()}, {key: part[1] for key, part in parts.items()}

    def listed(parts):
        return dict(enumerate(part[0] for part in parts)), dict(enumerate(part[1] for part in parts))

    def c3(name, repeats):
        chain = [join(reduce=conv(f"{name}.m.{i}.cv1"), mix=conv(f"{name}.m.{i}.cv2")) for i in range(repeats)]
        ends = {
            ours: conv(f"{name}.{theirs}") for ours, theirs in (("enter", "cv1"), ("bypass", "cv2"), ("merge", "cv3"))
        }
        return join(**ends, chain=listed(chain))

    def head(index):
        weight, bias = state[f"model.24.m.{index}.weight"][:, :, 0, 0], state[f"model.24.m.{index}.bias"]
        outputs = 5 + arch.classes
        weight, bias = weight.reshape(3, outputs, -1), bias.reshape(3, outputs)
        cut = {"localize": slice(0, 4), "score": slice(4, None)}
        return {
            name: {
                "kernel": weight[:, part].reshape(-1, weight.shape[-1]).T,
                "bias": bias[:, part].reshape(-1),
            }
            for name, part in cut.items()
        }

    backbone = join(
        stem=conv("model.0"),
        downs=listed([conv(f"model.{i}") for i in (1, 3, 5, 7)]),
        blocks=listed([c3(f"model.{i}", arch.repeats(n)) for i, n in ((2, 3), (4, 6), (6, 9), (8, 3))]),
        pool=join(reduce=conv("model.9.cv1"), merge=conv("model.9.cv2")),
    )
    neck = join(
        laterals=listed([conv("model.10"), conv("model.14")]),
        tops=listed([c3("model.13", arch.repeats(3)), c3("model.17", arch.repeats(3))]),
        downs=listed([conv("model.18"), conv("model.21")]),
        bottoms=listed([c3("model.20", arch.repeats(3)), c3("model.23", arch.repeats(3))]),
    )
    params, stats = join(backbone=backbone, neck=neck)
    return {**params, "heads": {i: head(i) for i in range(3)}}, stats


@pytest.fixture(scope="module")
def published():
    if not FIXTURES.is_dir():
        pytest.skip(f"no parity fixtures at {FIXTURES}; UGS_SHARED names the folder that holds them")
    state = torch_state_dict.load(FIXTURES / "yolov5n_nc10.state_dict.pt")
    return state, np.load(FIXTURES / "yolov5n_nc10_parity.npz")


def test_outputs_equal_those_of_the_published_network(published):
    state, want = published
    params, stats = from_published(state, architecture())
    graph, *fresh = nnx.split(YOLOv5(architecture(), rngs=nnx.Rngs(0)), nnx.Param, nnx.BatchStat)
    shapes = [jax.tree.map(np.shape, nnx.to_pure_dict(nnx.as_pure(part))) for part in fresh]
    assert [jax.tree.map(np.shape, part) for part in (params, stats)] == shapes
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == want["param_count"]

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(params, stats, images):  # in 0…1, which `Detector.apply` would make of bytes
        network = nnx.merge(graph, params, stats)
        network.eval()
        return network(images), network.localizers()

    outputs = run(params, stats, jnp.asarray(want["image_nchw"].transpose(0, 2, 3, 1)))
    decoded = []
    for i, (level, localizer) in enumerate(zip(*outputs, strict=True)):
        raw = localize(localizer, level.features)  # [B, h, w, A, 4]
        ours = jnp.concatenate([raw, level.objectness[..., None], level.classes], -1).transpose(0, 3, 1, 2, 4)
        theirs = want[f"raw_p{i}"]
        # float32 through some 60 layers, in two orders of summation.
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), rtol=1e-4)

        rows, columns, stride = *raw.shape[1:3], want["strides"][i]
        center = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), -1)[:, :, None] * stride
        center = jnp.asarray(np.broadcast_to(center, (*raw.shape[1:4], 2)), jnp.float32)
        size = jnp.broadcast_to(jnp.asarray(want["anchors_px"][i]), center.shape)
        boxes = BoxRegression().decode(raw, Anchors(center, size, jnp.full_like(center, stride)))
        decoded.append(np.asarray(xyxy_to_cxcywh(boxes)).transpose(0, 3, 1, 2, 4).reshape(2, -1, 4))
    # px; boxes reach 4 × 373 px
    np.testing.assert_allclose(np.concatenate(decoded, 1), want["decoded"][..., :4], rtol=1e-4, atol=0.02)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "xl"}, "expected a size among p, n, s, m, l, x; got 'xl'"),
        ({"p2": True}, r"anchors for 4 levels \(strides \(4, 8, 16, 32\)\); got 3. Fit them .* `fit_anchors`"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Architecture(**{"size": "n", "p2": False, "classes": 3, "anchors": COCO_ANCHORS, **change})
