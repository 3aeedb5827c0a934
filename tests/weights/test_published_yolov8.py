"""YOLOv8, YOLO11 and YOLO26: published names and layouts, round trips, and what tells the networks apart."""

import lzma
import math
import os
from pathlib import Path

import numpy as np
import pytest

from tests.detectors.test_yolov8 import PUBLISHED, architecture
from tests.reference import torch_state_dict
from tests.weights.networks import detector
from ugs_jax.detectors import YOLO11, YOLO26, Detector, YOLO11LinearPool, YOLOv8, YOLOv8LinearPool
from ugs_jax.objectives import DFL, UGS, SideRegression
from ugs_jax.weights import fit_weights, published_arrays, read_weights, torch_bytes, weights_of, write_weights
from ugs_jax.weights.layouts import template
from ugs_jax.weights.pickled import Global, Record
from ugs_jax.weights.published_yolov8 import architecture_of, published_name, published_shapes
from ugs_jax.weights.torch_values import StoredTensor, contents

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures/anchor_free"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no parity fixtures at {FIXTURES}")


def arch_of(network, size="p", p2=False, classes=3):
    return architecture(network, size, p2, classes, num_outputs=64)


def drawn(arch, seed):
    rng = np.random.default_rng(seed)
    values = {path: rng.normal(size=shape).astype(np.float32) for path, shape in template(arch).items()}
    return {path: np.exp(value) if path.endswith("/var") else value for path, value in values.items()}


def file_of(arch, arrays, path):
    path.write_bytes(torch_bytes(published_arrays(_weights(arch, arrays))))
    return path


def _weights(arch, arrays):
    network = Detector(arch, DFL())
    weights = weights_of(network, {}, {}, classes=("a", "b", "c"), origin="a test")
    weights.arrays.update(arrays)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize(("network", "size", "p2"), PUBLISHED)
def test_names_and_shapes_tell_the_network_and_have_the_published_number_of_parameters(network, size, p2):
    shapes = published_shapes(arch_of(network, size, p2, 80))
    learned = {name: shape for name, shape in shapes.items() if "running" not in name}
    assert sum(math.prod(shape) for shape in learned.values()) == PUBLISHED[network, size, p2][0]
    found = architecture_of(shapes, frozenset())
    assert (found.network, found.size, found.p2, found.classes) == (network, size, p2, 80)


@pytest.mark.parametrize(
    ("network", "p2", "layers"),
    [
        (YOLOv8, False, {*range(10), 12, 15, 16, 18, 19, 21, 22}),
        (YOLOv8, True, {*range(10), 12, 15, 18, 19, 21, 22, 24, 25, 27, 28}),
        (YOLO11, False, {*range(11), 13, 16, 17, 19, 20, 22, 23}),
        (YOLO26, True, {*range(11), 13, 16, 19, 20, 22, 23, 25, 26, 28, 29}),
    ],
)
def test_layers_are_numbered_as_published(network, p2, layers):
    shapes = published_shapes(arch_of(network, p2=p2))
    assert {int(name.split(".")[1]) for name in shapes} == layers


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("backbone/stem/conv/kernel", "model.0.conv.weight"),
        ("backbone/blocks/1/chain/0/attention/qkv/norm/mean", None),
        ("backbone/blocks/2/chain/0/chain/1/second/norm/scale", "model.6.m.0.m.1.cv2.bn.weight"),
        ("backbone/blocks/2/chain/0/merge/conv/kernel", "model.6.m.0.cv3.conv.weight"),
        ("backbone/blocks/2/merge/conv/kernel", "model.6.cv2.conv.weight"),
        ("backbone/pool/reduce/norm/var", "model.9.cv1.bn.running_var"),
        ("backbone/attention/merge/norm/bias", "model.10.cv2.bn.bias"),
        ("backbone/attention/chain/0/attention/position/conv/kernel", "model.10.m.0.attn.pe.conv.weight"),
        ("backbone/attention/chain/0/expand/conv/kernel", "model.10.m.0.ffn.0.conv.weight"),
        ("backbone/attention/chain/0/reduce/conv/kernel", "model.10.m.0.ffn.1.conv.weight"),
        ("neck/bottoms/1/enter/conv/kernel", "model.22.cv1.conv.weight"),
        ("heads/2/classify/3/conv/kernel", "model.23.cv3.2.1.1.conv.weight"),
        ("heads/0/box/1/conv/kernel", "model.23.cv2.0.1.conv.weight"),
        ("heads/1/localize/bias", "model.23.cv2.1.2.bias"),
        ("heads/1/score/kernel", "model.23.cv3.1.2.weight"),
    ],
)
def test_each_kind_of_layer_of_yolo11_has_its_published_name(path, name):
    arch = arch_of(YOLO11)
    if name is None:
        assert path not in template(arch)
    else:
        assert path in template(arch)
        assert published_name(path, arch) == name


def test_the_attention_of_yolo26s_neck_has_its_published_names():
    arch = architecture(YOLO26, "p", classes=3)
    start = "neck/bottoms/1/chain/0/parts"
    names = {
        f"{start}/0/second/norm/bias": "model.22.m.0.0.cv2.bn.bias",
        f"{start}/1/attention/project/conv/kernel": "model.22.m.0.1.attn.proj.conv.weight",
        f"{start}/1/expand/norm/var": "model.22.m.0.1.ffn.0.bn.running_var",
        f"{start}/1/reduce/conv/kernel": "model.22.m.0.1.ffn.1.conv.weight",
    }
    assert names.keys() <= template(arch).keys()
    assert {path: published_name(path, arch) for path in names} == names


@pytest.mark.parametrize("network", [YOLOv8, YOLO11])
def test_a_round_trip_through_a_state_dict_is_bit_identical(network, tmp_path):
    arch = arch_of(network)
    arrays = drawn(arch, 1)
    found = read_weights(file_of(arch, arrays, tmp_path / "weights.pt"))
    assert (found.arch.network, found.arch.size, found.arch.classes) == (network, "p", 3)
    assert found.decoding == DFL().decoding
    assert found.arrays.keys() == arrays.keys()
    assert all(np.array_equal(found.arrays[path], array) for path, array in arrays.items())
    write_weights(tmp_path / "weights.safetensors", found)
    again = read_weights(tmp_path / "weights.safetensors")
    assert again.arch == found.arch
    assert all(np.array_equal(again.arrays[path], array) for path, array in arrays.items())


@pytest.mark.slow
def test_a_round_trip_of_yolo26_writes_its_second_head_and_leaves_it_out(tmp_path):
    arch = architecture(YOLO26, "p", classes=3)
    network, arrays = Detector(arch, SideRegression()), drawn(arch, 1)
    weights = weights_of(network, {}, {}, classes=("a", "b", "c"), origin="a test")
    weights.arrays.update(arrays)
    (tmp_path / "weights.pt").write_bytes(torch_bytes(published_arrays(weights)))
    found = read_weights(tmp_path / "weights.pt")
    assert (found.arch.network, found.arch.size, found.decoding) == (YOLO26, "p", "SideRegression()")
    assert "its second head, which needs no suppression, is left out" in found.notes[0]
    assert all(np.array_equal(found.arrays[path], array) for path, array in arrays.items())


def test_the_files_points_of_the_distribution_are_written():
    written = published_arrays(_weights(arch_of(YOLOv8), drawn(arch_of(YOLOv8), 0)))
    np.testing.assert_array_equal(written["model.22.dfl.conv.weight"].ravel(), np.arange(16))


def test_heads_of_other_classes_and_objectives_start_afresh_and_say_so():
    arch = arch_of(YOLOv8)
    network = Detector(arch_of(YOLOv8, classes=5), UGS())
    fresh = network.init(0)
    params, _, report = fit_weights(_weights(arch, drawn(arch, 2)), network, *fresh)
    assert {path.split("/")[2] for path in report.initialised} == {"localize", "score"}
    assert "5 classes here, 3 in the weights" in " ".join(report.lines())
    np.testing.assert_array_equal(params["heads"][0]["score"]["bias"], fresh[0]["heads"][0]["score"]["bias"])


def test_weights_of_a_network_with_anchors_are_refused():
    with pytest.raises(ValueError, match=r"expected weights of YOLOv5p, got those of YOLOv8p.*kind yolov8"):
        fit_weights(_weights(arch_of(YOLOv8), {}), detector(), {}, {})


def test_a_network_with_distributions_and_two_heads_is_refused_by_name():
    shapes = {**published_shapes(arch_of(YOLO11)), "model.23.one2one_cv2.0.2.weight": (64, 16, 1, 1)}
    with pytest.raises(ValueError, match="got YOLOv10"):
        architecture_of(shapes, frozenset())


@pytest.mark.slow
@pytest.mark.parametrize(("network", "linear"), [(YOLOv8, YOLOv8LinearPool), (YOLO11, YOLO11LinearPool)])
def test_a_linear_first_convolution_of_the_pool_is_another_network(network, linear):
    shapes = published_shapes(arch_of(network))
    assert architecture_of(shapes, frozenset({"model.9.cv1"})).network is linear
    assert architecture_of(shapes, frozenset({"model.10.m.0.attn.qkv"})).network is network


def test_modules_tell_which_convolutions_have_no_activation():
    def module(kind, **children):
        return Record(Global("torch.nn.modules.container", kind), (), {"_modules": children})

    silu, identity = module("SiLU"), module("Identity")
    net = module("Sequential", **{"0": module("Conv", act=silu), "9": module("SPPF", cv1=module("Conv", act=identity))})
    with pytest.raises(ValueError, match="expected 1 to"):  # no tensors
        contents(net)
    net.state["_modules"]["0"].state["_buffers"] = {"weight": _some_tensor()}
    assert contents(module("Model", model=net)).linear == {"model.9.cv1"}


def _some_tensor():
    return StoredTensor(np.dtype(np.float32), "0", 1, 0, (1,), (1,))


@needs_fixtures
@pytest.mark.parametrize("name", ["yolov8n_nc10", "yolo11n_nc10"])
def test_the_exported_state_dict_equals_the_published_one(name, tmp_path):
    packed = FIXTURES / f"{name}.state_dict.pt.xz"
    (tmp_path / "state.pt").write_bytes(lzma.decompress(packed.read_bytes()))
    want, found = torch_state_dict.load(tmp_path / "state.pt"), published_arrays(read_weights(FIXTURES / f"{name}.pt"))
    assert set(found) == set(want)
    for key, array in want.items():
        assert found[key].shape == array.shape
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(found[key], array.astype(np.float32))
