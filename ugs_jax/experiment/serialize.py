"""Conversion of experiments to JSON and back. Nothing in a file is executed, and a file cannot cause any import.

Our own types and losses have short names. Those of users are saved as `module:qualname` (see `registry`). The arguments
of a function are saved with its name: `partial(losses.nwd, constant=20.0)` becomes
`{"function": "nwd", "arguments": {"constant": 20.0}}`.
"""

import dataclasses
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from data_pipeline import Augmentation, CocoJson, LoaderOptions, Tiles, TinyScenes, VisDrone, YoloFolder
from ugs_jax import losses
from ugs_jax.detectors import CenterSampling, Postprocess, ReceptiveField, TaskAligned
from ugs_jax.experiment.config import Ema, Experiment, Network
from ugs_jax.experiment.fitting import Fitted
from ugs_jax.experiment.loss_weights import LossWeights
from ugs_jax.experiment.optimizer import SGD, AdamW, OptaxChain, Schedule, Stabilize
from ugs_jax.experiment.parallel import Parallel
from ugs_jax.experiment.registry import look_up, name_of, saved_fields, suggestion
from ugs_jax.objectives import (
    DFL,
    UGS,
    BoxRegression,
    FittedGrid,
    Grid,
    GridPoints,
    Quality,
    Refinement,
    SecondStage,
    SideRegression,
    SideUGS,
    Uncertainty,
)

KNOWN_TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Experiment, Network, Ema, LossWeights, AdamW, SGD, OptaxChain, Schedule, Stabilize, LoaderOptions, Augmentation,
        TinyScenes, CocoJson, VisDrone, YoloFolder, Tiles, BoxRegression, DFL, UGS, Grid, GridPoints, FittedGrid,
        Uncertainty, Refinement, Postprocess, Parallel, Quality, SecondStage, TaskAligned, ReceptiveField,
        CenterSampling, SideUGS, SideRegression,
    )
}  # fmt: skip
_LOSSES = {name: getattr(losses, name) for name in losses.__all__}
_SHORT_NAMES = {id(value): name for name, value in (KNOWN_TYPES | _LOSSES).items()}


def to_json(value: Any) -> Any:
    """Return a config as JSON values.

    An object becomes {"type": name, field: value, …}, and a function becomes {"function": name}.

    Raises:
      ValueError: A value cannot be read back, such as a lambda.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: to_json(getattr(value, field.name)) for field in saved_fields(value)}
        return {"type": _name(type(value)), **fields}
    if isinstance(value, partial) and not value.args:
        arguments = {name: to_json(argument) for name, argument in value.keywords.items()}
        return {"function": _name(value.func), "arguments": arguments}
    if callable(value):
        return {"function": _name(value)}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"config: expected numbers, texts, functions or dataclasses, got {value!r}; replace it")


def from_json(value: Any, where: str = "config") -> Any:
    """Return a config from the JSON values of `to_json`.

    Args:
      value: JSON values.
      where: Location of the value in the config, for error messages.

    Raises:
      ValueError: A type, function or field is unknown, or belongs to a module of a user that is not registered. The
        message names the location and the nearest known name.
    """
    if isinstance(value, list):
        return tuple(from_json(item, f"{where}[{i}]") for i, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    if set(value) == {"path"}:
        return Path(value["path"])
    if set(value) in ({"function"}, {"function", "arguments"}):
        return _function(value["function"], value.get("arguments", {}), where)
    kind = _known(KNOWN_TYPES, value.get("type"), where, 'a "type"')
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise ValueError(
            f"{where}: expected a dataclass, got {value.get('type')!r}, which is not one; restore the file"
        )
    names = {field.name for field in saved_fields(kind)}
    arguments = {name: item for name, item in value.items() if name != "type"}
    for name in arguments:
        if name not in names:
            raise ValueError(f"{where}.{name}: no such field of {kind.__name__}{suggestion(name, names)}")
    missing = [field.name for field in saved_fields(kind) if field.name not in arguments and _is_required(field)]
    if missing:
        raise ValueError(
            f"{where}: expected all fields of {kind.__name__}, but {', '.join(missing)} are missing; add them"
        )
    return kind(**{name: from_json(item, f"{where}.{name}") for name, item in arguments.items()})


def function_named(name: str, where: str = "config") -> Any:
    """Return one of our losses by its short name, or a registered function by `module:name`.

    Raises:
      ValueError: The function does not exist or is not registered.
    """
    return _known(_LOSSES, name, where, "a loss")


def short_name(function: Any) -> str:
    """Return the name by which `function_named` finds a function.

    Raises:
      ValueError: The function has no name by which another process could find it.
    """
    return _name(function)


def fitted_to_json(fitted: Fitted) -> dict[str, Any]:
    """Return fitted anchors and label grids as JSON values."""
    return {"anchors": to_json(fitted.anchors), "fitted_localization": to_json(fitted.localization)}


def fitted_from(value: dict[str, Any], where: str = "config") -> Fitted:
    """Return fitted anchors and label grids from the JSON values of `fitted_to_json`.

    Args:
      value: JSON values.
      where: Name of the file, for error messages.

    Raises:
      ValueError: The anchors are not positive sides (w, h) for every level, or the objective cannot be read.
    """
    anchors = value.get("anchors")
    try:
        read = tuple(tuple((float(w), float(h)) for w, h in level) for level in anchors or ())
        if not read or not all(side > 0 and math.isfinite(side) for level in read for pair in level for side in pair):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'{where}: expected "anchors", a list of (width, height) in px for every level, got {anchors!r}; restore '
            "the file"
        ) from error
    localization = value.get("fitted_localization")
    if localization is None:
        raise ValueError(
            f'{where}: expected "fitted_localization", the objective of the run, got none; restore the file'
        )
    return Fitted(read, from_json(localization, f"{where}: fitted_localization"))


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _function(name: Any, arguments: Any, where: str) -> Any:
    function = function_named(name, where)
    if not callable(function) or not isinstance(arguments, Mapping):
        raise ValueError(f"{where}: expected a function and its arguments by name, got {name!r} and {arguments!r}")
    read = {key: from_json(item, f"{where}({key}=…)") for key, item in arguments.items()}
    return partial(function, **read) if read else function


def _name(value: Any) -> str:
    name = _SHORT_NAMES.get(id(value)) or name_of(value)
    if name is None:
        raise ValueError(
            f"{value!r}: expected a class or function at the top level of a module, which can be saved by its name"
        )
    return name


def _known(table: dict[str, Any], name: Any, where: str, what: str) -> Any:
    if isinstance(name, str) and ":" in name:
        return look_up(name, where)
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{where}: {what}: expected a known name, got {name!r}{suggestion(str(name), table)}")
    return table[name]
