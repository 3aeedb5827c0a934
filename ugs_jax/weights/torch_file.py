"""Read arrays by name from files of `torch.save`, without PyTorch and without running code in them."""

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ugs_jax.weights.pickled import read_pickle
from ugs_jax.weights.torch_values import build, contents

_MAX_MEMBERS = 100_000
_BEFORE_ZIP = b"\x80\x02\x8a\x0a"  # a pickle of one long integer, the start of files of torch.save until PyTorch 1.5


class TorchFile:
    """A file with a state dict, a module, or a checkpoint that holds one of them.

    Args:
      path: Path of the file. `read` opens it again.

    Attributes:
      contents: Tensors in the file and their positions.

    Raises:
      FileNotFoundError: The file does not exist.
      ValueError: The file is not one of `torch.save`, is damaged, or holds other values than tensors and known modules.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as archive:
            self._root = _check_members(archive, path)
            data = self._member(archive, "data.pkl")
            if f"{self._root}/byteorder" in archive.namelist():
                order = self._member(archive, "byteorder")
                if order != b"little":
                    raise ValueError(f"{path}: expected little-endian numbers, got byte order {order[:16]!r}")
        try:
            self.contents = contents(read_pickle(data, build))
        except ValueError as error:
            raise ValueError(f"{path}: {error} (nothing of it was executed)") from error

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Return tensors by name, each in its own dtype.

        Raises:
          ValueError: A storage is missing, damaged or shorter than its tensor requires.
        """
        with self._open() as archive:
            return {name: self._tensor(name, archive) for name in names}

    def _tensor(self, name: str, archive: zipfile.ZipFile) -> np.ndarray:
        tensor = self.contents.tensors[name]
        if math.prod(tensor.shape) > tensor.count:
            raise ValueError(
                f"{self.path}: {name}: expected at most as many numbers as its storage has, {tensor.count}, got sizes "
                f"{tensor.shape}; do not trust this file"
            )
        data = self._member(archive, f"data/{tensor.key}")
        if len(data) < tensor.count * tensor.dtype.itemsize:
            raise ValueError(
                f"{self.path}: {name}: expected a storage of {tensor.count} × {tensor.dtype}, got {len(data)} bytes; "
                "download the file again"
            )
        numbers = np.frombuffer(data, tensor.dtype, tensor.count)[tensor.offset :]
        steps = [step * tensor.dtype.itemsize for step in tensor.strides]
        return np.lib.stride_tricks.as_strided(numbers, tensor.shape, steps, writeable=False).copy()

    def _open(self) -> zipfile.ZipFile:
        with self.path.open("rb") as stream:
            start = stream.read(len(_BEFORE_ZIP))
        if start == _BEFORE_ZIP:
            raise ValueError(
                f"{self.path}: expected a zip file, as torch.save writes since PyTorch 1.6, got the older format; "
                "load and save it with a newer PyTorch if you trust its source"
            )
        try:
            return zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(
                f"{self.path}: expected a zip file written by torch.save, got: {error}; download it again"
            ) from error

    def _member(self, archive: zipfile.ZipFile, name: str) -> bytes:
        try:
            return archive.read(f"{self._root}/{name}")
        except KeyError as error:
            raise ValueError(f"{self.path}: expected {name} in the file, got none; download it again") from error
        except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"{self.path}: {name} is damaged ({error}); download the file again") from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the root folder of the archive. Hostile archives are refused before any member is read."""
    members = archive.infolist()
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise ValueError(
            f"{path}: expected a checkpoint of torch.save, got a TorchScript program of torch.jit.save; give the "
            "checkpoint it was made from, or save its weights: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
        )
    pickles = [member.filename for member in members if member.filename.endswith("/data.pkl")]
    if len(pickles) != 1 or len(members) > _MAX_MEMBERS:
        raise ValueError(
            f"{path}: expected one data.pkl among at most {_MAX_MEMBERS} members, as in a file of torch.save, got "
            f"{len(pickles)} among {len(members)}"
        )
    root = pickles[0].removesuffix("/data.pkl")
    seen = set()
    for member in members:
        name = member.filename
        inside = name.startswith(f"{root}/") and not {"", ".", ".."} & set(name.split("/"))
        if not inside or "\\" in name or name in seen:
            raise ValueError(f"{path}: expected distinct names inside {root}/, got {name!r}; do not trust this file")
        seen.add(name)
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
            raise ValueError(f"{path}: expected members without compression, got {name!r} compressed or encrypted")
    total, size = sum(member.file_size for member in members), path.stat().st_size
    if total > size:
        raise ValueError(
            f"{path}: expected members of at most {size} bytes in total, got {total}; do not trust this file"
        )
    return root
