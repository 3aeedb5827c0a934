"""Published names and layouts: equal outputs to the published network, and a bit-identical round trip."""

import functools
import json
import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from tests.flags import QUICKLY
from tests.reference import torch_state_dict
from tests.weights.networks import P2_ANCHORS, detector, drawn, same
from ugs_jax.boxes import xyxy_to_cxcywh
from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector, Outputs, localize
from ugs_jax.objectives import DFL, UGS
from ugs_jax.weights import (
    fit_weights,
    load_weights,
    predict_everywhere,
    published_arrays,
    read_weights,
    torch_bytes,
    weights_of,
    write_weights,
)
from ugs_jax.weights.published import architecture_of, published_shapes

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no parity fixtures at {FIXTURES}")

# Trainable parameters of the public networks with 80 classes, from their own code.
PUBLISHED = {
    ("n", False): 1_872_157,
    ("s", False): 7_235_389,
    ("m", False): 21_190_557,
    ("l", False): 46_563_709,
    ("x", False): 86_749_405,
    ("n", True): 1_916_604,
    ("s", True): 7_394_684,
    ("m", True): 21_627_900,
    ("l", True): 47_493_372,
    ("x", True): 88_447_100,
}


class OfFractions(Detector):
    """Takes images in 0…1, as the fixture has them, where a detector takes bytes."""

    def apply(self, params, stats, images, *, train):
        model = nnx.merge(self._graph, params, stats)
        model.eval()
        return Outputs(model(images), model.localizers()), stats


@pytest.mark.slow
@needs_fixtures
def test_outputs_and_boxes_equal_those_of_the_published_network():
    want = np.load(FIXTURES / "yolov5n_nc10_parity.npz")
    weights = read_weights(FIXTURES / "yolov5n_nc10.pt")
    assert weights.num_parameters == want["param_count"]
    assert (weights.arch.size, weights.arch.p2, weights.arch.classes) == ("n", False, 10)
    np.testing.assert_array_equal(weights.arch.anchors, want["anchors_px"])
    network = detector("n", classes=10)
    params, stats, report = load_weights(FIXTURES / "yolov5n_nc10.pt", network, *drawn(network, 0))
    assert not report.initialised
    assert not report.unused
    plain = OfFractions(network.arch, network.localization)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def run(params, stats, images):
        outputs, _ = plain.apply(params, stats, images, train=False)
        raw = [localize(localizer, level.features) for level, localizer in zip(*outputs, strict=True)]
        return outputs.levels, raw, predict_everywhere(plain, params, stats, images)

    levels, raws, found = run(params, stats, want["image_nchw"].transpose(0, 2, 3, 1))
    for i, (level, raw) in enumerate(zip(levels, raws, strict=True)):
        ours = np.concatenate([raw, level.objectness[..., None], level.classes], -1).transpose(0, 3, 1, 2, 4)
        theirs = want[f"raw_p{i}"]
        # float32 through some 60 layers, in two orders of summation; measured 1e-6.
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()

    # Theirs: within a level anchors, then rows, then columns. Ours: rows, columns, anchors.
    order = [np.arange(3 * h * w).reshape(h, w, 3).transpose(2, 0, 1).ravel() for h, w in ((16, 20), (8, 10), (4, 5))]
    starts = np.cumsum([0, *map(len, order)])[:-1]
    index = np.concatenate([start + part for start, part in zip(starts, order, strict=True)])
    boxes, scores = np.asarray(xyxy_to_cxcywh(found.boxes))[:, index], np.asarray(found.scores)[:, index]
    decoded = want["decoded"]
    assert np.abs(boxes - decoded[..., :4]).max() <= 1e-4 * np.abs(decoded[..., :4]).max()
    np.testing.assert_allclose(boxes[..., 2:], decoded[..., 2:4], rtol=1e-4)
    np.testing.assert_allclose(scores, decoded[..., 4:5] * decoded[..., 5:], rtol=1e-4)


@needs_fixtures
def test_the_exported_state_dict_equals_the_imported_one():
    want = torch_state_dict.load(FIXTURES / "yolov5n_nc10.state_dict.pt")
    found = published_arrays(read_weights(FIXTURES / "yolov5n_nc10.pt"))
    assert set(found) == set(want)
    for name, array in want.items():
        assert found[name].shape == array.shape
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(found[name], array.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "p2"), PUBLISHED)
def test_parameter_counts_of_names_and_shapes_are_the_published_ones(size, p2):
    arch = Architecture(size, p2, 80, P2_ANCHORS if p2 else COCO_ANCHORS)
    shapes = published_shapes(arch)
    learned = {name: shape for name, shape in shapes.items() if "running" not in name}
    assert sum(math.prod(shape) for shape in learned.values()) == PUBLISHED[size, p2]
    units = np.array(arch.anchors) / np.array(arch.strides)[:, None, None]
    assert architecture_of(shapes, units) == arch


def test_layers_of_the_variant_with_p2_are_numbered_as_published():
    shapes = published_shapes(Architecture("n", True, 80, P2_ANCHORS))
    numbers = {int(name.split(".")[1]) for name in shapes}
    assert numbers == {*range(11), 13, 14, 17, 18, 21, 22, 24, 25, 27, 28, 30, 31}
    # Width 1/4: P3 64, P2 32 channels; 22 and 25 go down from P2 and P3; 24 joins 22 and 18.
    assert shapes["model.18.conv.weight"] == (32, 64, 1, 1)
    assert shapes["model.21.cv1.conv.weight"] == (16, 64, 1, 1)
    assert "model.21.m.1.cv1.conv.weight" not in shapes
    assert shapes["model.22.conv.weight"] == (32, 32, 3, 3)
    assert shapes["model.24.cv3.conv.weight"] == (64, 64, 1, 1)
    assert shapes["model.25.conv.weight"] == (64, 64, 3, 3)
    assert shapes["model.28.conv.weight"] == (128, 128, 3, 3)
    assert [shapes[f"model.31.m.{i}.weight"] for i in range(4)] == [(255, c, 1, 1) for c in (32, 64, 128, 256)]


@pytest.mark.parametrize("p2", [False, True])
@pytest.mark.parametrize("form", ["torch", "published safetensors", "ours"])
def test_a_round_trip_is_bit_identical(form, p2, tmp_path):
    network = detector(p2=p2)
    params, stats = drawn(network, 1)
    weights = weights_of(network, params, stats, classes=("a", "b", "c"), origin="a test")
    path = tmp_path / "file"
    if form == "torch":
        path.write_bytes(torch_bytes(published_arrays(weights)))
    elif form == "ours":
        write_weights(path, weights)
    else:
        path.write_bytes(safetensors.numpy.save(published_arrays(weights)))
    found = read_weights(path)
    assert found.arch == weights.arch
    assert found.classes == (("a", "b", "c") if form == "ours" else None)
    params_back, stats_back, report = fit_weights(found, network, *drawn(network, 2))
    assert not report.initialised
    assert same((params, stats), (params_back, stats_back))


@pytest.mark.parametrize("localization", [UGS(), DFL()])
def test_a_head_that_does_not_regress_has_no_published_form(localization):
    network = detector(localization=localization)
    weights = weights_of(network, *drawn(network, 0), origin="a run")
    with pytest.raises(
        ValueError, match=r"a run: expected a head with BoxRegression\(\), as YOLOv5p has, .* write safe"
    ):
        published_arrays(weights)


def test_equal_weights_make_equal_files_and_other_dtypes_are_refused():
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)}
    assert torch_bytes(arrays) == torch_bytes({name: array.copy() for name, array in arrays.items()})
    with pytest.raises(ValueError, match="w: expected float32, float16 or int64, got complex64"):
        torch_bytes({"w": np.zeros(1, np.complex64)})


def test_another_reader_reads_what_is_written(tmp_path):
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "n": np.array(3), "h": np.ones((2, 0), np.float16)}
    (tmp_path / "file.pt").write_bytes(torch_bytes(arrays))
    found = torch_state_dict.load(tmp_path / "file.pt")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_pytorch_reads_what_is_written_as_weights_only(tmp_path):
    torch = pytest.importorskip("torch")
    network = detector()
    arrays = published_arrays(weights_of(network, *drawn(network, 0)))
    (tmp_path / "file.pt").write_bytes(torch_bytes(arrays))
    found = torch.load(tmp_path / "file.pt", weights_only=True)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


@functools.cache
def unchanged():
    network = detector()
    return published_arrays(weights_of(network, *drawn(network, 0)))


def state(**changes):
    """The published arrays of a small network, changed."""
    return {name: array for name, array in {**unchanged(), **changes}.items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.0.conv.weight": np.zeros((8, 3, 3, 3), np.float32)}, r"\[channels, 3, 6, 6\] with .* got \[8, 3, 3"),
        ({"model.0.conv.weight": np.zeros((12, 3, 6, 6), np.float32)}, r"among \[8, 16, 32, 48, 64, 80\], got \[12"),
        ({"model.0.conv.weight": None}, "got no such tensor"),
        (
            {"model.33.m.0.weight": np.zeros((24, 8, 1, 1), np.float32)},
            r"got .*model\.33\.m\.0\.weight; networks with P6",
        ),
        ({"model.24.m.0.weight": None}, "got none; networks with P6"),
        (
            {"model.24.m.0.weight": np.zeros((25, 32, 1, 1), np.float32)},
            "the same number of outputs for each of 3 anchors, got 25",
        ),
        ({"model.24.m.0.weight": np.zeros((15, 32, 1, 1), np.float32)}, "1 to 10000 classes, got 0"),
        ({"model.24.anchors": np.zeros((3, 3, 2), np.float32)}, "positive anchors"),
        ({"model.24.anchors": np.ones((4, 3, 2), np.float32)}, r"anchors \[3 levels, anchors, 2\], got \[4, 3, 2\]"),
        ({"model.24.anchors": np.ones((3, 0, 2), np.float32)}, r"anchors \[3 levels, anchors, 2\], got \[3, 0, 2\]"),
        (
            {"model.2.cv1.conv.weight": np.ones((4, 4, 1, 1), np.float32)},
            r"got model\.2\.cv1.* \[4, 4, 1, 1\] instead of",
        ),
        ({"model.2.cv1.bn.bias": None}, r"YOLOv5p with 3 classes, got no model\.2\.cv1\.bn\.bias"),
        ({"model.25.\x1b[2J": np.ones(3, np.float32)}, r"'model\.25\.\\x1b\[2J', which YOLOv5p does not have"),
        ({"model.25.attention": np.ones(3, np.float32)}, r"model\.25\.attention, which YOLOv5p does not have"),
        (
            {"model.9.cv1.bn.bias": np.full(64, np.nan, np.float32)},
            r"model\.9\.cv1\.bn\.bias: expected finite .* got 64",
        ),
    ],
)
@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_another_architecture_is_an_error_that_says_what_differs(changes, message, form, tmp_path):
    path = tmp_path / "other.pt"
    arrays = state(**changes)
    path.write_bytes(torch_bytes(arrays) if form == "torch" else safetensors.numpy.save(arrays))
    with pytest.raises(ValueError, match=rf"other\.pt: .*{message}"):
        read_weights(path)


def test_names_with_the_prefixes_of_wrappers_are_the_same(tmp_path):
    path = tmp_path / "wrapped.pt"
    path.write_bytes(torch_bytes({f"module.model.{name}": array for name, array in state().items()}))
    assert read_weights(path).arch == detector().arch


def test_without_anchors_those_of_coco_are_used_except_with_p2(tmp_path):
    path = tmp_path / "bare.pt"
    path.write_bytes(torch_bytes(state(**{"model.24.anchors": None})))
    assert read_weights(path).arch.anchors == COCO_ANCHORS
    network = detector(p2=True)
    arrays = published_arrays(weights_of(network, *drawn(network, 0)))
    del arrays["model.31.anchors"]
    path.write_bytes(torch_bytes(arrays))
    with pytest.raises(ValueError, match=r"expected model\.31\.anchors"):
        read_weights(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a file of torch.save or of safetensors, got an empty file; copy it again"),
        (b"\xff" * 64, "expected a file of torch.save or of safetensors, got neither"),
        (safetensors.numpy.save({}, {"ugs_jax": "{"}), "expected JSON in its metadata"),
        (safetensors.numpy.save({}, {"ugs_jax": "[" * 100_000}), "expected JSON in its metadata"),
        (safetensors.numpy.save({}, {"ugs_jax": "[]"}), "expected a JSON object in its metadata, got list"),
        (safetensors.numpy.save({}, {"ugs_jax": "{}"}), "expected metadata as `ugs import` writes it, got KeyError"),
        (safetensors.numpy.save({}), r".* got neither: it has no metadata 'ugs_jax' .* write it again by `ugs export`"),
    ],
)
def test_a_file_that_is_no_weights_is_refused(data, message, tmp_path):
    path = tmp_path / "no.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"no\.safetensors: {message}"):
        read_weights(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "huge"}, "expected a size among"),
        ({"kind": "tpf"}, "expected a kind among yolov5, tph, tph_cbam, tph_plus, yolov5u, .*; got"),
        ({"kind": None}, "expected a kind among .*; got None"),
        ({"kind": ["tph"]}, "expected a kind among .*; got \\['tph'"),
        ({"kind": {"tph": 1}}, "expected a kind among .*; got {'tph'"),
        ({"kind": "tph"}, "expected p2=True, got p2=False: tph has a head at stride 4"),
        ({"num_classes": 10**12}, "1 to 10000 classes"),
        ({"num_outputs": 10**12}, "1 to 10000 outputs"),
        ({"anchors": [[[1, 1]] * 1000] * 3}, "1 to 100 anchors"),
        ({"anchors": [[[-1, 1]]] * 3}, "anchors"),
        ({"anchors": [[[10**400, 1]]] * 3}, "OverflowError"),
        ({"origin": "\x1b[2J"}, "expected printable text"),
        ({"num_classes": 4}, r"heads/0/score/kernel \[32, 12\] instead of \[32, 15\]"),
    ],
)
def test_invalid_metadata_are_refused(change, message, tmp_path):
    network = detector()
    weights = weights_of(network, *drawn(network, 0), origin="a test")
    about = {"size": "p", "p2": False, "anchors": COCO_ANCHORS, "num_classes": 3, "num_outputs": 4}
    about |= {"decoding": "BoxRegression()", "classes": None, "origin": "a test", **change}
    path = tmp_path / "odd.safetensors"
    path.write_bytes(safetensors.numpy.save(weights.arrays, {"ugs_jax": json.dumps(about)}))
    with pytest.raises(ValueError, match=rf"odd\.safetensors: .*{message}"):
        read_weights(path)


def test_half_precision_weights_are_read_as_float32(tmp_path):
    arrays = {name: a.astype(np.float16) if a.dtype == np.float32 else a for name, a in state().items()}
    (tmp_path / "half.pt").write_bytes(torch_bytes(arrays))
    found = read_weights(tmp_path / "half.pt").arrays
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    kernel = arrays["model.1.conv.weight"].astype(np.float32)
    np.testing.assert_array_equal(found["backbone/downs/0/conv/kernel"][1, 2, 3, 4], kernel[4, 3, 1, 2])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt: expected a \.pt or \.safetensors file"):
        read_weights(tmp_path / "nowhere.pt")
