"""Write state dicts for PyTorch without PyTorch; `torch.load(file, weights_only=True)` reads them."""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}
_WHEN = (1980, 1, 1, 0, 0, 0)  # a fixed date, so that equal weights make equal files


def torch_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return an ordered dictionary of tensors in the format of `torch.save`: a zip of one pickle and all storages.

    Args:
      arrays: Arrays by name; float32, float16 or int64.

    Raises:
      ValueError: An array has another dtype.
    """
    for name, array in arrays.items():
        if array.dtype.name not in _STORAGES:
            raise ValueError(f"{name}: expected float32, float16 or int64, got {array.dtype}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        members = {"data.pkl": _pickle(arrays), "byteorder": b"little"}
        members |= {f"data/{i}": _little_endian(array) for i, array in enumerate(arrays.values())}
        for name, data in {**members, "version": b"3\n"}.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", _WHEN), data)
    return buffer.getvalue()


def _little_endian(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()


def _pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Assemble a pickle of protocol 2 by hand: Python's pickler would have to import the functions that it names."""
    entries = [_text(name) + _tensor(i, array) for i, (name, array) in enumerate(arrays.items())]
    items = pickle.MARK + b"".join(entries) + pickle.SETITEMS
    return pickle.PROTO + b"\x02" + _empty_ordered() + items + pickle.STOP


def _tensor(index: int, array: np.ndarray) -> bytes:
    storage = [_text("storage"), _global("torch", _STORAGES[array.dtype.name]), _text(str(index)), _text("cpu")]
    strides = [step // array.itemsize for step in np.empty(array.shape, array.dtype).strides]
    arguments = [
        _tuple([*storage, _integer(array.size)]) + pickle.BINPERSID,
        _integer(0),
        _tuple(map(_integer, array.shape)),
        _tuple(map(_integer, strides)),
        pickle.NEWFALSE,  # requires_grad
        _empty_ordered(),  # hooks
    ]
    return _global("torch._utils", "_rebuild_tensor_v2") + _tuple(arguments) + pickle.REDUCE


def _empty_ordered() -> bytes:
    return _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _tuple(parts: Iterable[bytes]) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _integer(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)
