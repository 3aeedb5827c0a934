"""Read weights from files of `torch.save`, and from safetensors with our names or the published ones."""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from ugs_jax.detectors import Architecture, YOLOv5
from ugs_jax.detectors.networks import network_named
from ugs_jax.weights import published, published_yolov8
from ugs_jax.weights.known_weights import FAMILIES, known_weights
from ugs_jax.weights.layouts import Shape, check_head, template
from ugs_jax.weights.torch_file import TorchFile
from ugs_jax.weights.weights import KEY, REGRESSION, Arrays, Weights

Read = Callable[[Iterable[str]], Arrays]

_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")  # a zip file, and what torch.save wrote before it wrote those
_IGNORED = re.compile(r"model\.\d+\..*\b(num_batches_tracked|anchors|anchor_grid|dfl\.conv\.weight)")


def read_weights(path: Path) -> Weights:
    """Read weights from a file of `torch.save`, or from safetensors with our names or the published ones.

    PyTorch is not needed, and no code in the file is executed.

    Args:
      path: Checkpoint, module or state dict of a published network (`FAMILIES`), or a safetensors file. Averaged
        weights (`ema`) are preferred.

    Raises:
      FileNotFoundError: The file does not exist.
      ValueError: The file is damaged or hostile, or has another architecture. The message names wrong tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a .pt or .safetensors file, found none")
    with path.open("rb") as stream:
        start = stream.read(1024)
    if not start.startswith(_TORCH):
        if (known := known_weights(start)) is not None:
            raise ValueError(f"{path}: expected a file of torch.save or of safetensors, got {known.name}; {known.fix}")
        return from_safetensors(path.read_bytes(), str(path))
    file = TorchFile(path)
    found = file.contents
    shapes = {name: tensor.shape for name, tensor in found.tensors.items()}
    return _published(str(path), f"{path.name} ({found.part})", shapes, file.read, found.classes, found.linear)


def from_safetensors(data: bytes, where: str) -> Weights:
    """Return the weights in a safetensors file.

    Args:
      data: Bytes of the file.
      where: Name of the file, for error messages.

    Raises:
      ValueError: The file is damaged, or has another architecture.
    """
    try:
        arrays = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{where}: expected a file of torch.save or of safetensors, got neither ({error}); download it again"
        ) from error
    except KeyError as error:
        raise ValueError(f"{where}: expected numbers that NumPy knows, got {error}; save it as float32") from error
    about = _metadata(data, where)
    if about is not None:
        return _ours(where, arrays, about)
    shapes = {name: array.shape for name, array in arrays.items()}
    if not any(re.match(r"model\.\d+\.", _numbered(name)) for name in shapes):
        raise ValueError(
            f"{where}: expected a file of `ugs export` or `ugs import`, or tensors with the names of "
            f"{FAMILIES}, got neither: it has no metadata {KEY!r} and no tensor model.0.conv.weight. Give the "
            ".pt file that it was made from, or write it again by `ugs export`"
        )
    return _published(where, Path(where).name, shapes, lambda names: {name: arrays[name] for name in names}, None)


def _metadata(data: bytes, where: str) -> dict[str, Any] | None:
    """Return our metadata, or None if this project did not write the file. The header has been checked before."""
    size = int.from_bytes(data[:8], "little")
    said = json.loads(data[8 : 8 + size]).get("__metadata__", {}).get(KEY)
    if said is None:
        return None
    try:
        about = json.loads(said)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: expected JSON in its metadata, got none ({error}); write the file again") from error
    if not isinstance(about, dict):
        raise ValueError(f"{where}: expected a JSON object in its metadata, got {type(about).__name__}")
    return about


def _ours(where: str, arrays: Arrays, about: dict[str, Any]) -> Weights:
    try:
        anchors = tuple(tuple((float(w), float(h)) for w, h in level) for level in about["anchors"])
        if not all(0 < side < math.inf for level in anchors for pair in level for side in pair):
            raise ValueError(f"anchors {anchors}")
        classes = None if about["classes"] is None else tuple(_printable(name) for name in about["classes"])
        decoding, origin = _printable(about["decoding"]), _printable(about["origin"])
        arch = Architecture(
            about["size"],
            bool(about["p2"]),
            int(about["num_classes"]),
            anchors,
            int(about["num_outputs"]),
            network=network_named(about.get("kind", YOLOv5.name)),
            second_stage=int(about.get("second_stage", 0)),
            quality=int(about.get("quality", 0)),
            p2_joins=bool(about.get("p2_joins", True)),
        )
        check_head(arch)
        inference = about.get("inference")
        if inference is not None and not isinstance(inference, dict):
            raise ValueError(f"inference {type(inference).__name__}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{where}: expected metadata as `ugs import` writes it, got {error!r}; write the file again"
        ) from error
    _check(where, arch, template(arch), {name: array.shape for name, array in arrays.items()})
    name = f"{Path(where).name}, from {origin}"
    return Weights(arch, decoding, _finite(where, arrays), classes, name, inference)


def _printable(text: Any) -> str:
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError(f"expected printable text, got {text!r}")
    return text


def _published(
    where: str,
    origin: str,
    shapes: Mapping[str, Shape],
    read: Read,
    classes: tuple[str, ...] | None,
    linear: frozenset[str] = frozenset(),
) -> Weights:
    """Return weights with published names. `read` reads the tensors of given names."""
    theirs = {_numbered(name): name for name in shapes}
    by_number = {number: shapes[name] for number, name in theirs.items()}
    anchor_free = published_yolov8.is_published(by_number)
    anchors = published.anchors_name(by_number)
    units = None if anchors is None else read([theirs[anchors]])[theirs[anchors]]
    try:
        if anchor_free:
            arch = published_yolov8.architecture_of(by_number, frozenset(map(_numbered, linear)))
        else:
            arch = published.architecture_of(by_number, units)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    naming = published_yolov8 if anchor_free else published
    expected = naming.published_shapes(arch)
    second = set(filter(published_yolov8.SECOND_HEAD.fullmatch, by_number)) if anchor_free else set()
    found_shapes = {n: s for n, s in by_number.items() if not (_IGNORED.fullmatch(n) or n in second)}
    _check(where, arch, expected, found_shapes)
    found = read([theirs[name] for name in expected])
    arrays = _finite(where, {name: found[theirs[name]] for name in expected})
    classes = classes if classes is not None and len(classes) == arch.classes else None
    decoding = published_yolov8.objective_of(arch.network).decoding if anchor_free else REGRESSION
    notes = []
    if units is None and not anchor_free:
        notes.append(f"{where}: it has no anchors, so those published for COCO are assumed.")
    if second:
        notes.append(f"{where}: its second head, which needs no suppression, is left out; the first head is used.")
    return Weights(arch, decoding, naming.from_published(arrays, arch), classes, origin, notes=tuple(notes))


def _numbered(name: str) -> str:
    """Remove wrappers: `module.model.model.0.conv.weight`, `_orig_mod.model.0.conv.weight` → `model.0.conv.weight`."""
    match = re.fullmatch(r"(?:_orig_mod\.|module\.|model\.|ema\.|net\.|network\.|detector\.)+(\d+\..*)", name)
    return f"model.{match[1]}" if match else name


def _check(where: str, arch: Architecture, expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    network = arch.name
    wrong = [f"no {name}" for name in expected if name not in found]
    wrong += [f"{_shown(name)}, which {network} does not have" for name in found if name not in expected]
    wrong += [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise ValueError(
            f"{where}: expected the {len(expected)} tensors of {network} with {arch.classes} classes, got "
            f"{'; '.join(wrong[:4])}{more}. It is of another architecture, or its layers were fused; give a checkpoint "
            f"of {FAMILIES} as it was trained"
        )


def _shown(name: str) -> str:
    return name[:80] if name.isprintable() else ascii(name[:80])


def _finite(where: str, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Return the arrays as float32 after checking that they are finite."""
    with np.errstate(over="ignore"):
        wide = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    for name, array in wide.items():
        if not np.isfinite(array).all():
            count = int(np.sum(~np.isfinite(array)))
            raise ValueError(f"{where}: {name}: expected finite numbers, got {count} that are not; take another file")
    return wide
