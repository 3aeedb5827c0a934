"""ONNX models of detectors find what the detectors find."""

import functools
import json
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.flags import QUICKLY
from tests.training.toy import ConvDetector, ToyDetector
from tests.weights.networks import P2_ANCHORS
from tests.weights.onnx.running import assert_same_detections, metadata_of, run_model
from ugs_jax import __version__
from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, Postprocess
from ugs_jax.detectors.architecture import published_anchors
from ugs_jax.detectors.networks import NETWORKS
from ugs_jax.objectives import DFL, UGS, BoxRegression, Quality, SecondStage, SideRegression, SideUGS
from ugs_jax.weights import export_onnx

onnx = pytest.importorskip("onnx")

SIZE = (64, 96)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), dtype=np.uint8)
OPTIONS = Postprocess(pre_nms_topk=60, max_detections=20)
ANCHORS = tuple(tuple((s * w, s * h) for w, h in ((0.8, 1.0), (1.2, 0.9), (1.0, 1.6))) for s in (5.0, 8.0, 16.0))
TOY = ToyDetector(Architecture("p", False, 3, ANCHORS), UGS())


def toy(objective):
    return replace(TOY, localization=objective)


def compare(detector, params, stats, options=OPTIONS, images=IMAGES, px=1e-2, score=1e-4, **changes):
    """Export, run, and compare with the detector. In float32, sums in another order make the difference."""
    data = export_onnx(detector, params, stats, options, images.shape[1:3], **changes)
    found = run_model(data, images=images)
    detect = jax.jit(lambda images: detector.detect(params, stats, images, options), compiler_options=QUICKLY)
    want = jax.device_get(detect(images))
    np.testing.assert_array_equal(found["count"], want.valid.sum(1))
    for i in range(len(images)):
        count = found["count"][i]
        assert count > 1
        rows = [zip(each.classes[i], each.scores[i], each.boxes[i], strict=True) for each in (_Rows(found), want)]
        assert_same_detections(list(rows[0])[:count], list(rows[1])[:count], px=px, score=score)
        for values in found.values():
            assert values.ndim == 1 or not values[i, count:].any()
    if want.deviation is not None:
        assert (found["deviation"][found["scores"] > 0] > 0).all()
        total = lambda values: np.sum(values, where=(want.scores > 0)[..., None])  # noqa: E731 - in any order
        assert total(found["deviation"]) == pytest.approx(total(want.deviation), rel=1e-3)
    return data


class _Rows:
    def __init__(self, found):
        self.__dict__ = found


@pytest.mark.parametrize(
    ("objective", "changes"),
    [
        (UGS(), {"voting": 0.05, "spread_penalty": 1.0}),
        (BoxRegression(), {"voting": 0.05, "max_detections": 90}),
        pytest.param(UGS(), {}, marks=pytest.mark.slow),
        pytest.param(DFL(), {"voting": 0.05}, marks=pytest.mark.slow),
    ],
    ids=["UGS with all factors", "regression with padding", "UGS", "DFL"],
)
def test_a_model_finds_what_the_detector_finds(objective, changes):
    detector = toy(objective)
    data = compare(detector, *detector.init(0), replace(OPTIONS, **changes))
    shape = onnx.load_from_string(data).graph.output[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch"
    assert shape[1].dim_value == changes.get("max_detections", 20)


def test_a_factor_that_the_objective_cannot_give_is_refused():
    detector = toy(BoxRegression())
    with pytest.raises(ValueError, match="spread_penalty: expected an objective that predicts deviations"):
        export_onnx(detector, *detector.init(0), replace(OPTIONS, spread_penalty=1.0), SIZE)


@pytest.mark.parametrize("size", [1, 2])
def test_a_fixed_batch_is_in_the_shapes(size):
    detector = toy(BoxRegression())
    data = compare(detector, *detector.init(0), images=IMAGES[:size], batch_size=size)
    graph = onnx.load_from_string(data).graph
    assert [each.dim_value for each in graph.input[0].type.tensor_type.shape.dim] == [size, *SIZE, 3]
    assert {each.name: each.type.tensor_type.shape.dim[0].dim_value for each in graph.output} == {
        "boxes": size,
        "scores": size,
        "classes": size,
        "count": size,
    }


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_without_images_is_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch_size: expected at least 1 image, got {batch_size}"):
        export_onnx(TOY, *TOY.init(0), OPTIONS, SIZE, batch_size=batch_size)


def test_the_metadata_says_how_to_use_the_model():
    data = export_onnx(TOY, *TOY.init(0), OPTIONS, SIZE, class_names=("car", "bus", "Straßenbahn"))
    about = {key: json.loads(value) for key, value in metadata_of(data).items()}
    assert about["class_names"] == ["car", "bus", "Straßenbahn"]
    assert about["image_size"] == [64, 96]
    assert about["padding_value"] == 114
    assert about["channels"] == "RGB"
    assert about["normalisation"].startswith("none: uint8")
    assert about["strides"] == [8, 16, 32]
    assert about["objective"] == "UGS"
    assert about["postprocess"]["iou_threshold"] == 0.6
    assert about["library"] == f"ugs_jax {__version__}"
    model = onnx.load_from_string(data)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}


def test_the_metadata_says_if_a_detector_was_trained_on_tiles():
    data = export_onnx(TOY, *TOY.init(0), OPTIONS, SIZE, tiles={"tile": (64, 96), "overlap": 0.2})
    about = {key: json.loads(value) for key, value in metadata_of(data).items()}
    assert (about["tile"], about["overlap"]) == ([64, 96], 0.2)
    assert "tile" not in metadata_of(export_onnx(TOY, *TOY.init(0), OPTIONS, SIZE))


def test_names_of_other_classes_are_refused():
    with pytest.raises(ValueError, match=r"class_names: expected 3 names, .* got 1"):
        export_onnx(TOY, *TOY.init(0), OPTIONS, SIZE, class_names=("car",))


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r'expected the package onnx, .* pip install "\.\[onnx\]"'):
        export_onnx(TOY, *TOY.init(0), OPTIONS, SIZE)


def test_a_network_in_half_precision_is_written_in_float32():
    detector = ConvDetector(Architecture("p", False, 3, ANCHORS), BoxRegression())
    half = replace(detector, arch=replace(detector.arch, dtype=jnp.bfloat16))
    found = [run_model(export_onnx(each, *detector.init(0), OPTIONS, SIZE), images=IMAGES) for each in (detector, half)]
    for name, values in found[0].items():
        np.testing.assert_array_equal(found[1][name], values)


@functools.cache
def statistics_of(arch):
    """Statistics of the images, so that activations are of order 1, as those of a trained network."""
    detector = Detector(arch, BoxRegression())
    params, stats = detector.init(0)
    apply = jax.jit(lambda *state: detector.apply(*state, IMAGES, train=True)[1], compiler_options=QUICKLY)
    # They are found from running statistics with momentum 0.97.
    return jax.tree.map(lambda new, old: (new - 0.97 * old) / 0.03, apply(params, stats), stats)


def seeing(detector):
    """Parameters and statistics of a network that gives clear scores; its second stage is not 0."""
    params, _ = detector.init(0)
    for head in params["heads"].values():
        head["score"]["kernel"] *= 4
        if "second" in head:
            shape = head["second"]["out"]["kernel"].shape
            drawn = np.random.default_rng(0).normal(size=shape, scale=0.3)
            head["second"]["out"]["kernel"] = jnp.asarray(drawn, jnp.float32)
    return params, statistics_of(detector.arch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "p2", "options"),
    [
        (BoxRegression(), False, OPTIONS),
        (DFL(), True, replace(OPTIONS, voting=0.05)),
        (
            UGS(second_stage=SecondStage(hidden=8), quality=Quality(hidden=6)),
            True,
            replace(OPTIONS, spread_penalty=1.0, quality_power=0.5, voting=0.1),
        ),
    ],
    ids=["CIoU", "DFL", "UGS"],
)
def test_a_model_of_yolov5_finds_what_the_network_finds(objective, p2, options):
    detector = Detector(Architecture("p", p2, 3, P2_ANCHORS if p2 else COCO_ANCHORS), objective)
    compare(detector, *seeing(detector), options, px=0.05, score=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tph_cbam", "tph_plus"])
def test_a_model_of_tph_yolov5_finds_what_the_network_finds(kind):
    """The two contain all blocks of the three."""
    network, p2 = NETWORKS[kind], kind != "tph_plus"
    detector = Detector(Architecture("p", p2, 3, published_anchors(network, p2), network=network), UGS())
    compare(detector, *seeing(detector), px=0.05, score=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "p2", "objective", "options"),
    [
        ("yolov8", False, DFL(), OPTIONS),
        (
            "yolov8",
            True,
            UGS(second_stage=SecondStage(hidden=8), quality=Quality(hidden=6)),
            replace(OPTIONS, spread_penalty=1.0, quality_power=0.5, voting=0.1),
        ),
        ("yolo11", False, SideUGS(), replace(OPTIONS, voting=0.05)),
        ("yolo26", False, SideRegression(), OPTIONS),
        ("yolov5u", False, UGS(), replace(OPTIONS, spread_penalty=1.0, voting=0.05)),
    ],
    ids=["YOLOv8, DFL", "YOLOv8, UGS", "YOLO11, SideUGS", "YOLO26, sides", "YOLOv5u, UGS"],
)
def test_a_model_of_a_network_without_anchors_finds_what_the_network_finds(kind, p2, objective, options):
    network = NETWORKS[kind]
    detector = Detector(Architecture("p", p2, 3, published_anchors(network, p2), network=network), objective)
    compare(detector, *seeing(detector), options, px=0.05, score=1e-3)
