"""Hand-made pickles and zip files, as written by `torch.save` and by an attacker."""

import pickle
import struct
import zipfile

import numpy as np


def text(value):
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def number(value):
    if -(1 << 31) <= value < 1 << 31:
        return pickle.BININT + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data


def call(module, name, *arguments):
    return named(module, name) + tuple_of(*arguments) + pickle.REDUCE


def named(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def tuple_of(*parts):
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def dict_of(**entries):
    items = b"".join(text(name) + value for name, value in entries.items())
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS


def whole(value):
    return pickle.PROTO + b"\x02" + value + pickle.STOP


def storage(count, key="0", kind="FloatStorage"):
    return tuple_of(text("storage"), named("torch", kind), text(key), text("cpu"), number(count)) + pickle.BINPERSID


def tensor(count=4, offset=0, shape=(4,), strides=(1,), **options):
    sizes = [tuple_of(*map(number, values)) for values in (shape, strides)]
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage(count, **options), number(offset), *sizes, pickle.NEWFALSE
    )


def module(**state):
    """A module with `_parameters`, `_buffers` and `_modules`."""
    return instance("models.common", "Conv", **state)


def instance(package, kind, **state):
    """An object with attributes."""
    return named(package, kind) + pickle.EMPTY_TUPLE + pickle.NEWOBJ + dict_of(**state) + pickle.BUILD


FOUR = np.arange(4, dtype=np.float32)


def write_zip(path, pickled, storages=(FOUR,), *, extra=None, compression=zipfile.ZIP_STORED):
    members = {"archive/data.pkl": pickled}
    members |= {f"archive/data/{i}": array.tobytes() for i, array in enumerate(storages)}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in {**members, **(extra or {})}.items():
            archive.writestr(zipfile.ZipInfo(name), data, compression)
    return path
