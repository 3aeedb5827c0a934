"""Contents of a YOLOv5 checkpoint as inert values: tensors within their storages, modules as records."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from ugs_jax.weights.known_weights import FAMILIES
from ugs_jax.weights.pickled import Global, Persistent, Record

_DTYPES: dict[str, Any] = {
    "HalfStorage": np.float16,
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "BFloat16Storage": jnp.bfloat16,
    "BoolStorage": np.bool_,
    "ByteStorage": np.uint8,
    "CharStorage": np.int8,
    "ShortStorage": np.int16,
    "IntStorage": np.int32,
    "LongStorage": np.int64,
}

_ANCHOR_FREE = {
    "Attention", "Bottleneck", "C2PSA", "C2f", "C3", "C3k", "C3k2", "Concat", "Conv", "DFL", "DWConv", "Detect",
    "PSABlock", "SPPF",
}  # fmt: skip
# Networks that were evaluated while they were trained hold their loss.
_LOSSES = {"BboxLoss", "DFLoss", "E2ELoss", "v8DetectionLoss"}
# Modules of the networks of FAMILIES, and classes that describe training. All become inert records.
_RECORDS = {
    "models.yolo": {"Model", "DetectionModel", "Detect"},
    "models.common": {"Conv", "C3", "Bottleneck", "SPPF", "Concat"},
    "ultralytics.nn.tasks": {"DetectionModel"},
    "ultralytics.nn.modules": _ANCHOR_FREE,
    "ultralytics.nn.modules.conv": _ANCHOR_FREE,
    "ultralytics.nn.modules.block": _ANCHOR_FREE,
    "ultralytics.nn.modules.head": _ANCHOR_FREE,
    "ultralytics.utils": {"IterableSimpleNamespace"},
    "ultralytics.utils.loss": _LOSSES,
    "ultralytics.utils.tal": {"TaskAlignedAssigner"},
    "ultralytics.yolo.utils": {"IterableSimpleNamespace"},
    "ultralytics.yolo.utils.loss": _LOSSES,
    "ultralytics.yolo.utils.tal": {"TaskAlignedAssigner"},
    "torch.nn.modules.activation": {"SiLU"},
    "torch.nn.modules.batchnorm": {"BatchNorm2d"},
    "torch.nn.modules.container": {"ModuleList", "Sequential"},
    "torch.nn.modules.conv": {"Conv2d"},
    "torch.nn.modules.linear": {"Identity"},
    "torch.nn.modules.loss": {"BCEWithLogitsLoss"},
    "torch.nn.modules.pooling": {"MaxPool2d"},
    "torch.nn.modules.upsampling": {"Upsample"},
    "torch": {"device"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "_codecs": {"encode"},
    "pathlib": {"PosixPath", "WindowsPath"},
    "argparse": {"Namespace"},
    "__builtin__": {"set"},
    "builtins": {"set"},
}
# Entries of a checkpoint that hold weights, preferred first: of YOLOv5, of Lightning, and of custom training code.
_PARTS = (
    "ema", "ema_state_dict", "model_ema", "ema_model", "module", "model", "model_state_dict", "model_state",
    "state_dict", "net", "network", "weights", "params",
)  # fmt: skip
_MAX_WRAPPERS = 4
_MAX_RANK, _LARGEST, _MAX_TENSORS, _MAX_MODULES = 8, 1 << 48, 20_000, 5_000


@dataclass(frozen=True)
class StoredTensor:
    """Position of a tensor in the file, checked to be within its storage.

    With strides of 0 a tensor can have more numbers than its storage. Checkpoints hold such views beside their weights.

    Attributes:
      dtype: Data type of the numbers.
      key: Number of the storage.
      count: Count of numbers in the storage.
      offset: Position of the tensor's first number in the storage.
      shape: Sizes of the tensor.
      strides: Strides, counted in numbers.
    """

    dtype: np.dtype
    key: str
    count: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Contents:
    """Contents of a file of `torch.save`.

    Attributes:
      part: Part of the file that holds the tensors: an entry of a checkpoint (`ema` is preferred to `model`), `module`,
        or `state dict`.
      tensors: Tensors by name, as PyTorch's `state_dict()` names them.
      classes: Class names, or None if they are missing.
      linear: Names of the convolutions that have no activation. A state dict does not say it.
    """

    part: str
    tensors: dict[str, StoredTensor]
    classes: tuple[str, ...] | None
    linear: frozenset[str] = frozenset()


def build(kind: Global, arguments: tuple[Any, ...]) -> Any:
    """Return the inert value of a call, for `read_pickle`.

    Raises:
      ValueError: No checkpoint of these networks needs the global, or a tensor extends beyond its storage.
    """
    name = str(kind)
    if name == "collections.OrderedDict":
        return _ordered(arguments)
    if name == "torch._utils._rebuild_tensor_v2":
        return _tensor(arguments)
    if name == "torch._utils._rebuild_parameter" and arguments and isinstance(arguments[0], StoredTensor):
        return arguments[0]
    if name == "torch.Size" and len(arguments) == 1:
        return arguments[0]
    if kind.name in _RECORDS.get(kind.module, ()):
        return Record(kind, arguments)
    if kind.module.startswith(("models.", "ultralytics.", "torch.nn.")):
        raise ValueError(
            f"expected modules of {FAMILIES}, got {name}, which is of another architecture; give a checkpoint of one "
            "of these"
        )
    raise ValueError(f"expected tensors and modules of YOLO, got the global {name}; do not trust this file")


def contents(value: Any) -> Contents:
    """Return the tensors of a state dict, a module or a checkpoint, as `read_pickle` returns it.

    Raises:
      ValueError: The value is of another kind, has no tensors or too many, or has too many modules (possibly a cycle).
    """
    part, chosen = _chosen(value)
    classes = _class_names(value) or _class_names(chosen)
    linear: frozenset[str] = frozenset()
    if isinstance(chosen, Record):
        tensors, linear = _state_dict(chosen)
    elif isinstance(chosen, dict):
        tensors = {str(name): entry for name, entry in chosen.items() if isinstance(entry, StoredTensor)}
    else:
        raise ValueError(f"expected a state dict, a module or a checkpoint, got a {type(chosen).__name__}")
    if (
        not tensors
        and isinstance(value, dict)
        and ({"optimizer", "optimizer_state_dict", "param_groups"} & value.keys())
    ):
        raise ValueError(
            "expected weights, got the state of an optimizer only; give the file of the model, often saved beside it"
        )
    if not 0 < len(tensors) <= _MAX_TENSORS:
        raise ValueError(f"expected 1 to {_MAX_TENSORS} tensors by name, got {len(tensors)}")
    return Contents(part, tensors, classes, linear)


def _chosen(value: Any) -> tuple[str, Any]:
    """Return the name and the value of the part that holds the weights; averaged weights are preferred."""
    part, chosen = "module" if isinstance(value, Record) else "state dict", value
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(chosen, dict) or any(isinstance(entry, StoredTensor) for entry in chosen.values()):
            break
        name = next((name for name in _PARTS if isinstance(chosen.get(name), (dict, Record))), None)
        if name is None:
            break
        part, chosen = name if part == "state dict" else f"{part}.{name}", chosen[name]
    return part, chosen


def _ordered(arguments: tuple[Any, ...]) -> dict[str, Any]:
    pairs = arguments[0] if arguments else []
    whole = isinstance(pairs, list) and len(arguments) < 2
    if not whole or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise ValueError("expected an ordered dictionary of pairs, got other entries")
    if not all(type(name) is str for name, _ in pairs):
        raise ValueError("expected an ordered dictionary with strings as keys, got other keys")
    return dict(pairs)


def _tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    if len(arguments) < 4:
        raise ValueError(f"expected a tensor by storage, offset, sizes and strides, got {len(arguments)} arguments")
    dtype, key, count = _storage(arguments[0])
    (offset,), shape, strides = _sizes((arguments[1],)), _sizes(arguments[2]), _sizes(arguments[3])
    if len(shape) != len(strides):
        raise ValueError(f"expected a stride for every size, got sizes {shape} and strides {strides}")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= count:
        raise ValueError(
            f"expected a tensor within its storage of {count} numbers, got sizes {shape}, strides {strides}, "
            f"offset {offset}; do not trust this file"
        )
    return StoredTensor(dtype, key, count, offset, shape, strides)


def _storage(value: Any) -> tuple[np.dtype, str, int]:
    if not isinstance(value, Persistent) or len(value.identifier) != 5:
        raise ValueError("expected a tensor with a storage of five parts, got another reference")
    label, kind, key, _, count = value.identifier
    if label != "storage" or not isinstance(kind, Global) or kind.module != "torch" or kind.name not in _DTYPES:
        raise ValueError(f"expected a storage of a type among {', '.join(_DTYPES)}, got {str(kind)[:80]}")
    if type(key) is not str or not (key.isascii() and key.isdecimal()):
        raise ValueError(f"expected the number of a storage, got {str(key)[:40]!r}; do not trust this file")
    return np.dtype(_DTYPES[kind.name]), key, _sizes((count,))[0]


def _sizes(values: Any) -> tuple[int, ...]:
    whole = isinstance(values, tuple) and all(type(value) is int and 0 <= value < _LARGEST for value in values)
    if not whole or len(values) > _MAX_RANK:
        raise ValueError(
            f"expected sizes, strides and offset of a tensor, at most {_MAX_RANK} whole numbers >= 0 each, got other "
            "values; do not trust this file"
        )
    return cast("tuple[int, ...]", values)


def _state_dict(module: Record) -> tuple[dict[str, StoredTensor], frozenset[str]]:
    """Return tensors as PyTorch's `state_dict()` does, and the names of the modules whose `act` is the identity.

    Shared modules count twice; cycles of modules are refused.
    """
    tensors: dict[str, StoredTensor] = {}
    linear: set[str] = set()
    waiting, count = [("", module)], 0
    while waiting:
        prefix, module = waiting.pop()
        count += 1
        if count > _MAX_MODULES:
            raise ValueError(f"expected at most {_MAX_MODULES} modules, got more; do not trust this file")
        for name, tensor in _own_tensors(module):
            tensors[f"{prefix}{name}"] = tensor
        children = _named(module, "_modules").items()
        if any(
            name == "act" and isinstance(child, Record) and child.kind.name == "Identity" for name, child in children
        ):
            linear.add(prefix.removesuffix("."))
        waiting += [(f"{prefix}{name}.", child) for name, child in children if isinstance(child, Record)][::-1]
    return tensors, frozenset(linear)


def _own_tensors(module: Record) -> Iterator[tuple[str, StoredTensor]]:
    hidden = module.state.get("_non_persistent_buffers_set")
    names = hidden.arguments[0] if isinstance(hidden, Record) and hidden.arguments else []
    for kind in ("_parameters", "_buffers"):
        for name, value in _named(module, kind).items():
            if isinstance(value, StoredTensor) and not (isinstance(names, list) and name in names):
                yield name, value


def _named(module: Record, kind: str) -> dict[str, Any]:
    entries = module.state.get(kind, {})
    if not isinstance(entries, dict) or not all(type(name) is str for name in entries):
        raise ValueError(f"expected {kind} of {module.kind} by name, got a {type(entries).__name__}")
    return entries


def _class_names(value: Any) -> tuple[str, ...] | None:
    entries = value.state if isinstance(value, Record) else value
    names = entries.get("names") if isinstance(entries, dict) else None
    names = list(names.values()) if isinstance(names, dict) else names
    if not isinstance(names, list) or not all(type(name) is str and name.isprintable() for name in names):
        return None
    return tuple(names)
