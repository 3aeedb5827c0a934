"""Reader of PyTorch state dicts (a zip file with one pickle and raw storages) that uses NumPy only."""

import pickle
import zipfile
from collections import OrderedDict

import numpy as np

DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "DoubleStorage": np.float64, "LongStorage": np.int64}


def load(path):
    """Names to arrays, in the order they were saved."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        folder = pickled.removesuffix("data.pkl")
        with archive.open(pickled) as file:
            return _Reader(file, lambda key: archive.read(f"{folder}data/{key}")).load()


def _tensor(storage, offset, shape, strides, *_):
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()


class _Reader(pickle.Unpickler):
    def __init__(self, file, read):
        super().__init__(file)
        self._read = read

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"expected tensors in ordered dictionaries, got {module}.{name}")

    def persistent_load(self, identifier):
        _, dtype, key, _, count = identifier
        return np.frombuffer(self._read(key), dtype, count)
