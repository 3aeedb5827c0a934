"""Reading of torch.save files."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import torch_state_dict
from tests.weights.pickles import (
    call,
    dict_of,
    instance,
    module,
    number,
    tensor,
    text,
    tuple_of,
    whole,
    write_zip,
)
from ugs_jax.weights.torch_file import TorchFile

FIXTURES = Path(os.environ.get("UGS_SHARED", Path(__file__).parents[2] / "../shared")) / "fixtures"
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no parity fixtures at {FIXTURES}")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file.pt"


@needs_fixtures
@pytest.mark.parametrize("name", ["yolov5n_nc10.pt", "yolov5n_nc10.state_dict.pt"])
def test_a_checkpoint_and_a_state_dict_hold_the_same_tensors_by_the_same_names(name):
    want = torch_state_dict.load(FIXTURES / "yolov5n_nc10.state_dict.pt")
    found = TorchFile(FIXTURES / name)
    read = found.read(found.contents.tensors)
    assert set(read) == set(want)
    for key, array in want.items():
        assert read[key].dtype == array.dtype
        np.testing.assert_array_equal(read[key], array)


@needs_fixtures
def test_a_checkpoint_has_its_classes_and_the_part_that_was_read():
    found = TorchFile(FIXTURES / "yolov5n_nc10.pt").contents
    assert found.part == "model"  # there is an entry `ema`, but it is None
    assert found.classes is not None
    assert found.classes[:2] == ("pedestrian", "people")


def test_averaged_weights_are_preferred(file):
    ema, model = dict_of(w=tensor(key="0")), dict_of(w=tensor(key="1"))
    arrays = [np.zeros(4, np.float32), np.ones(4, np.float32)]
    found = TorchFile(write_zip(file, whole(dict_of(model=model, ema=ema)), arrays))
    assert found.contents.part == "ema"
    np.testing.assert_array_equal(found.read(["w"])["w"], arrays[0])


@given(st.lists(st.integers(1, 4), max_size=4), st.integers(0, 3), st.randoms())
def test_a_view_is_read_as_numpy_reads_it(tmp_path_factory, shape, offset, random):
    numbers = np.arange(offset + math.prod(shape) + 2, dtype=np.float64)
    order = random.sample(range(len(shape)), len(shape))
    want = numbers[offset : offset + math.prod(shape)].reshape(shape).transpose(order)
    strides = [step // 8 for step in want.strides]
    view = tensor(len(numbers), offset, want.shape, strides, kind="DoubleStorage")
    path = write_zip(tmp_path_factory.mktemp("view") / "file.pt", whole(dict_of(w=view)), [numbers])
    np.testing.assert_array_equal(TorchFile(path).read(["w"])["w"], want)


@pytest.mark.parametrize(
    ("kind", "dtype"), [("HalfStorage", "float16"), ("LongStorage", "int64"), ("BoolStorage", "bool")]
)
def test_storages_have_their_dtype(file, kind, dtype):
    numbers = np.array([0, 1, 1, 0], dtype)
    read = TorchFile(write_zip(file, whole(dict_of(w=tensor(kind=kind))), [numbers])).read(["w"])["w"]
    assert read.dtype == numbers.dtype
    np.testing.assert_array_equal(read, numbers)


def test_buffers_that_are_not_saved_are_left_out_and_parameters_of_inner_modules_have_their_path(file):
    hidden = call("builtins", "set", pickle.EMPTY_LIST + text("secret") + pickle.APPEND)
    inner = module(_parameters=dict_of(weight=tensor()), _buffers=dict_of(), _modules=dict_of())
    outer = module(
        _parameters=dict_of(bias=pickle.NONE),
        _buffers=dict_of(secret=tensor(), mean=tensor()),
        _modules=dict_of(conv=inner),
        _non_persistent_buffers_set=hidden,
    )
    assert set(TorchFile(write_zip(file, whole(outer))).contents.tensors) == {"mean", "conv.weight"}


def test_other_objects_in_trained_checkpoints_are_skipped(file):
    """Grids of the head that are expanded views, scores as NumPy numbers, paths and options."""
    dtype = call("numpy", "dtype", text("f8"), number(0), number(1)) + tuple_of(number(3), text("<")) + pickle.BUILD
    scalar = call("numpy.core.multiarray", "scalar", dtype, call("_codecs", "encode", text("x"), text("latin1")))
    view = tensor(shape=(1, 80, 4), strides=(4, 0, 1))
    model = module(
        _parameters=dict_of(w=tensor()), anchor_grid=pickle.EMPTY_LIST + view + pickle.APPEND, stride=tensor()
    )
    options = instance("argparse", "Namespace", lr=number(1))
    value = dict_of(best_fitness=scalar, model=model, opt=options, file=call("pathlib", "PosixPath", text("x")))
    found = TorchFile(write_zip(file, whole(value)))
    assert set(found.contents.tensors) == {"w"}
    np.testing.assert_array_equal(found.read(["w"])["w"], np.arange(4))


@pytest.mark.parametrize("package", ["ultralytics.utils", "ultralytics.yolo.utils"])
def test_the_loss_that_a_network_was_trained_with_is_skipped(file, package):
    """`last.pt` of a training that was stopped. The package moved in release 8.0.136."""
    assigner = instance(f"{package}.tal", "TaskAlignedAssigner", _modules=dict_of(), topk=number(10))
    loss = instance(
        f"{package}.loss",
        "v8DetectionLoss",
        bce=instance("torch.nn.modules.loss", "BCEWithLogitsLoss", _buffers=dict_of(weight=pickle.NONE)),
        bbox_loss=instance(f"{package}.loss", "BboxLoss", _modules=dict_of()),
        device=call("torch", "device", text("cuda"), number(0)),
        assigner=assigner,
        proj=tensor(),
        hyp=instance(package, "IterableSimpleNamespace", box=number(7)),
    )
    model = module(_parameters=dict_of(w=tensor()), criterion=loss)
    assert set(TorchFile(write_zip(file, whole(dict_of(ema=model)))).contents.tensors) == {"w"}


def test_reading_needs_no_torch():
    code = "import sys, ugs_jax.weights; assert not any(name.split('.')[0] == 'torch' for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
