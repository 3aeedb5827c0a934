"""Files that are no weights are called by name; weights under other names and prefixes are read."""

import functools
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from tests.weights.networks import detector, drawn
from tests.weights.pickles import dict_of, number, tensor, text, whole, write_zip
from ugs_jax.weights import published_arrays, read_weights, weights_of
from ugs_jax.weights.torch_file import TorchFile


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "a Git LFS pointer; run `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html><body>Sign in", "a web page; download the file itself"),
        (b"<html>", "a web page"),
        (b"", "an empty file"),
        (b"\x1f\x8b\x08\x00", "a gzip archive; unpack it"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file of Keras"),
        (b"\x80\x04\x95", "a pickle that torch.save did not write"),
        (b"\x93NUMPY\x01", "a NumPy array"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_of_another_kind_are_called_by_name(tmp_path, data, message, suffix):
    path = tmp_path / f"best{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"best\{suffix}: expected a file of torch\.save .* got {message}"):
        read_weights(path)


def test_a_torchscript_program_is_called_by_name(tmp_path):
    path = tmp_path / "best.torchscript.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__/models/yolo.py", "version"):
            archive.writestr(f"best.torchscript/{name}", b"\x80\x02}.")
    with pytest.raises(ValueError, match=r"got a TorchScript program of torch\.jit\.save; give the checkpoint"):
        read_weights(path)


def test_the_state_of_an_optimizer_is_called_by_name(tmp_path):
    state = dict_of(state=dict_of(a=tensor()), param_groups=dict_of(lr=number(1)))
    for content in (state, dict_of(epoch=number(3), optimizer=state), dict_of(optimizer_state_dict=state)):
        path = write_zip(tmp_path / "opt.pt", whole(content), [np.zeros(4, np.float32)])
        with pytest.raises(
            ValueError, match=r"opt\.pt: expected weights, got the state of an optimizer only; give the"
        ):
            TorchFile(path)


@pytest.mark.parametrize(
    ("wrap", "part"),
    [
        (lambda tensors: tensors, "state dict"),
        (
            lambda tensors: dict_of(model_state_dict=tensors, optimizer_state_dict=dict_of(lr=number(1))),
            "model_state_dict",
        ),
        (lambda tensors: dict_of(epoch=number(1), state_dict=tensors), "state_dict"),
        (lambda tensors: dict_of(net=tensors), "net"),
        (
            lambda tensors: dict_of(ema=dict_of(module=tensors, updates=number(9)), model=dict_of(w=text("x"))),
            "ema.module",
        ),
        (lambda tensors: dict_of(model=dict_of(state_dict=tensors)), "model.state_dict"),
    ],
)
def test_weights_are_found_in_checkpoints_of_any_make(tmp_path, wrap, part):
    path = write_zip(tmp_path / "w.pt", whole(wrap(dict_of(w=tensor()))), [np.arange(4, dtype=np.float32)])
    found = TorchFile(path)
    assert found.contents.part == part
    np.testing.assert_array_equal(found.read(["w"])["w"], np.arange(4))


@functools.cache
def arrays():
    network = detector()
    params, stats = drawn(network, 0)
    return published_arrays(weights_of(network, params, stats, classes=("a", "b", "c"), origin="test"))


@pytest.mark.parametrize(
    "prefix", ["", "_orig_mod.", "module.", "module._orig_mod.", "model.", "_orig_mod.module.model.", "net."]
)
def test_prefixes_of_wrappers_are_read(tmp_path, prefix):
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors.numpy.save({f"{prefix}{name}": array for name, array in arrays().items()}))
    found = read_weights(path)
    assert found.arch.classes == 3
