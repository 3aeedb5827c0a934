"""Hostile and damaged files of torch.save are refused by name, and nothing in them is executed."""

import os
import pickle
import random
import subprocess
import time
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.weights.pickles import call, dict_of, module, named, number, tensor, text, tuple_of, whole, write_zip
from ugs_jax.weights.pickled import PICKLE_LIMIT
from ugs_jax.weights.torch_file import TorchFile


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file.pt"


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "arguments", "named"),
    [
        (os.system, "touch {0}", "posix.system"),
        (eval, "open({0!r}, 'w')", "eval"),
        (exec, "open({0!r}, 'w')", "exec"),
        (open, "{0}", "open"),
        (subprocess.check_call, "touch {0}", "check_call"),
        (np.load, "{0}", "numpy.*load"),
        (np.fromfile, "{0}", "numpy.*fromfile"),
        (getattr, "{0}", "getattr"),
        (__import__, "os", "__import__"),
    ],
)
def test_a_callable_of_the_file_is_named_and_not_called(function, arguments, named, file, tmp_path):
    made = tmp_path / "made"
    attack = Touch(function, *[arguments.format(str(made))])
    for value in (attack, {"model": attack}, {"model": {"w": attack}, "names": [attack]}):
        write_zip(file, pickle.dumps(value, protocol=2))
        with pytest.raises(ValueError, match=rf"file\.pt: .*{named}.*do not trust this file.*nothing of it was exec"):
            TorchFile(file)
        assert not made.exists()


def test_the_attack_of_these_tests_works_on_pythons_unpickler(tmp_path):
    pickle.loads(pickle.dumps(Touch(open, str(tmp_path / "made"), "w"), protocol=2)).close()
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (call("torch", "load", text("x")), "the global torch.load"),
        (call("torch.hub", "load", text("x")), "the global torch.hub.load"),
        (call("torch", "\x1b[2J", text("x")), r"the global 'torch\.\\x1b\[2J'; do not trust"),
        (call("torch._utils", "_rebuild_parameter", number(1)), "_rebuild_parameter"),
        (call("collections", "OrderedDict", number(1)), "ordered dictionary of pairs"),
        (call("models.common", "Focus"), "models.common.Focus, which is of another architecture"),
        (call("ultralytics.nn.tasks", "PoseModel"), "ultralytics.nn.tasks.PoseModel, which is of another"),
        # A method of an object: the module is a class, or the name has dots.
        (call("models.common", "Conv.__init__.__globals__"), "another architecture"),
        (call("builtins", "set.__class__"), "the global builtins.set.__class__"),
        # What a call made is called, or is given attributes that Python would look up.
        (call("models.common", "Conv") + pickle.EMPTY_TUPLE + pickle.REDUCE, "a call of a global"),
        (named("models.common", "Conv") + dict_of(x=number(1)) + pickle.BUILD, "attributes of a module"),
        (module()[:-1] + text("x") + pickle.BUILD, "attributes by name"),
        (pickle.EMPTY_DICT + tuple_of(number(1)) + number(1) + pickle.SETITEM, "strings and numbers as keys"),
        (pickle.EMPTY_DICT + text("x") + number(1) + pickle.APPEND, "a list to append to"),
        (text("x") + text("y") + number(1) + pickle.SETITEM, "a dict to put them in"),
        # Opcodes that import, call or recurse in other ways, and such as torch.save does not write.
        (pickle.MARK + named("os", "system") + pickle.OBJ, "got OBJ"),
        (pickle.MARK + pickle.INST + b"os\nsystem\n", "got INST"),
        (text("os") + text("system") + pickle.STACK_GLOBAL, "got STACK_GLOBAL"),
        (pickle.EXT1 + b"\x01", "got EXT1"),
        (pickle.FRAME + (8).to_bytes(8, "little") + b"N" * 8, "got FRAME"),
        (pickle.BYTEARRAY8 + (8).to_bytes(8, "little") + b"N" * 8, "got BYTEARRAY8"),
        # Damaged.
        (pickle.TUPLE, "without its operands"),
        (pickle.REDUCE, "without its operands"),
        (pickle.BINGET + b"\x07", "without its operands"),
        (pickle.BINUNICODE + b"\xff\xff\xff\x7f", "expected 2147483647 bytes"),
        # Whole, but no weights.
        (number(1), "expected a state dict, a module or a checkpoint"),
        (dict_of(epoch=number(3)), "expected 1 to 20000 tensors by name, got 0"),
    ],
)
def test_a_pickle_with_anything_else_is_refused(value, message, file):
    with pytest.raises(ValueError, match=rf"file\.pt: .*{message}"):
        TorchFile(write_zip(file, whole(value)))


def test_another_protocol_and_a_pickle_too_long_are_refused(file):
    with pytest.raises(ValueError, match=r"protocol 2, which torch.save writes, got 4"):
        TorchFile(write_zip(file, pickle.dumps({"a": 1}, protocol=4)))
    with pytest.raises(ValueError, match=f"at most {PICKLE_LIMIT} bytes"):
        TorchFile(write_zip(file, b"N" * (PICKLE_LIMIT + 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 8}, "expected a storage of 8 × float32, got 16 bytes"),
        ({"shape": (5,)}, "within its storage of 4 numbers, got sizes"),
        ({"shape": (5,), "strides": (0,)}, r"at most as many numbers as its storage has, 4, got sizes \(5,\)"),
        ({"offset": 1}, "within its storage"),
        ({"offset": -1}, "whole numbers >= 0 each"),
        ({"strides": (2,)}, "within its storage"),
        ({"shape": (2, 2), "strides": (-1, 1)}, "whole numbers >= 0 each"),
        ({"shape": (-4,)}, "whole numbers >= 0 each"),
        ({"shape": (1 << 40,), "strides": (0,)}, "as its storage has"),
        ({"shape": (1 << 62,), "strides": (0,)}, "whole numbers >= 0 each"),
        ({"shape": (1 << 30, 1 << 30), "strides": (0, 0)}, "as its storage has"),
        ({"shape": (1,) * 9, "strides": (1,) * 9}, "at most 8 whole numbers"),
        ({"shape": (2, 2), "strides": (1,)}, "a stride for every size"),
        ({"count": 1 << 40, "shape": (1 << 40,)}, "a storage of 1099511627776 × float32"),
        ({"key": "../0"}, "the number of a storage"),
        ({"key": "٣"}, "the number of a storage"),
        ({"key": "1"}, "expected data/1 in the file, got none"),
        ({"kind": "QInt8Storage"}, "a storage of a type among"),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(options, message, file):
    with pytest.raises(ValueError, match=message):
        TorchFile(write_zip(file, whole(dict_of(w=tensor(**options))))).read(["w"])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"../evil": b""}, r"distinct names inside archive/, got '\.\./evil'"),
        ({"archive/../../evil": b""}, "distinct names inside"),
        ({"/etc/passwd": b""}, "distinct names inside"),
        ({"archive\\..\\evil": b""}, "distinct names inside"),
        ({"other/data.pkl": b""}, "expected one data.pkl"),
        ({"archive/byteorder": b"big"}, "little-endian numbers, got byte order b'big'"),
    ],
)
def test_a_zip_with_other_members_is_refused(extra, message, file):
    with pytest.raises(ValueError, match=message):
        TorchFile(write_zip(file, whole(dict_of(w=tensor())), extra=extra))


def test_a_duplicate_name_is_refused(file):
    write_zip(file, whole(dict_of(w=tensor())))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/data/0", b"0" * 16)
    with pytest.raises(ValueError, match="distinct names"):
        TorchFile(file)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(file):
    write_zip(file, whole(dict_of(w=tensor())), [np.zeros(1 << 22, np.float32)], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"without compression, got 'archive/data.pkl' compressed"):
        TorchFile(file)


def test_members_that_overlap_are_refused(file):
    """Every entry of the directory points to the same bytes: small file, much to read."""
    write_zip(file, whole(dict_of(w=tensor())), [np.zeros(1000, np.float32)] * 4)
    data = bytearray(file.read_bytes())
    places = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    for place in places[1:]:
        data[place + 20 : place + 28] = (20_000).to_bytes(4, "little") * 2  # compressed and uncompressed size
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"at most {len(data)} bytes in total"):
        TorchFile(file)


def test_a_file_cut_short_anywhere_is_an_error_that_names_it(file, tmp_path):
    data = write_zip(file, whole(dict_of(w=tensor()))).read_bytes()
    for length in random.Random(0).sample(range(len(data)), 50):
        cut = tmp_path / "cut.pt"
        cut.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.pt: expected a zip file"):
            TorchFile(cut)


def test_a_flipped_bit_in_a_storage_is_found(file):
    data = bytearray(write_zip(file, whole(dict_of(w=tensor()))).read_bytes())
    place = data.find(np.arange(4, dtype=np.float32).tobytes())
    data[place + 5] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"data/0 is damaged .*CRC"):
        TorchFile(file).read(["w"])


def test_the_format_before_zip_is_named(file):
    file.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"rest")
    with pytest.raises(ValueError, match=r"PyTorch 1.6, got the older format; load and save it"):
        TorchFile(file)


def test_a_module_that_holds_itself_is_refused(file):
    put, get = pickle.BINPUT + b"\x01", pickle.BINGET + b"\x01"
    made = named("models.common", "Conv") + pickle.EMPTY_TUPLE + pickle.NEWOBJ + put
    cycle = made + dict_of(_modules=dict_of(inner=get)) + pickle.BUILD
    with pytest.raises(ValueError, match="at most 5000 modules, got more; do not trust"):
        TorchFile(write_zip(file, whole(cycle)))


def test_deeply_shared_modules_are_refused_quickly(file):
    value = module(_parameters=dict_of(w=tensor())) + pickle.BINPUT + b"\x00"
    for depth in range(1, 100):  # 2^99 paths
        get = pickle.BINGET + bytes([depth - 1])
        value += module(_modules=dict_of(a=get, b=get)) + pickle.BINPUT + bytes([depth])
    start = time.perf_counter()
    with pytest.raises(ValueError, match="at most 5000 modules"):
        TorchFile(write_zip(file, whole(value)))
    assert time.perf_counter() - start < 5  # measured 0.05 s; following all paths would not end


def test_a_memo_index_takes_no_memory(file):
    value = dict_of(w=tensor()) + pickle.LONG_BINPUT + b"\xff\xff\xff\xff"  # Python's would ask for 64 GiB
    assert set(TorchFile(write_zip(file, whole(value))).contents.tensors) == {"w"}


@given(st.binary(max_size=60))
@example(b".")  # ends with nothing made
def test_random_bytes_are_an_error_that_names_the_file(tmp_path_factory, data):
    path = write_zip(tmp_path_factory.mktemp("random") / "file.pt", b"\x80\x02" + data)
    with pytest.raises(ValueError, match=r"file\.pt: "):
        TorchFile(path)
