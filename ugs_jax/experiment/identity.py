"""Comparison of configs by the settings that determine the results, and of data sets by their content."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ugs_jax.experiment.config import Experiment

_FREE = (
    "parallel",
    "loader.workers",
    "loader.threads",
    "loader.cache_bytes",
    "loader.strict",
    "loader.box_buckets",
    "network.remat",
    "save_every",
    "patience",
)
"""Fields that may change when a run is resumed. They affect devices and speed or, like `patience`, when a run ends."""


def differences(there: Any, now: Any) -> list[str]:
    """Return the differences between two configs, except for fields that may change when a run is resumed.

    The number of epochs may grow. If it shrinks, that is a difference.

    Args:
      there: Config of the existing run, as JSON values.
      now: Config of the new run, as JSON values.

    Returns:
      Texts such as `epochs is 3 there and 5 here`.
    """
    found = [text for name, text in _differences(there, now) if not name.startswith((*_FREE, "epochs"))]
    if isinstance(there, dict) and isinstance(now, dict) and now.get("epochs", 0) < there.get("epochs", 0):
        found.append(f"epochs is {there['epochs']} there and {now['epochs']} here, which may only grow")
    return found


def describe_data(experiment: Experiment) -> str:
    """Return a text with the settings of the data set. Files appear by their name and a hash of their content.

    The text is the same on all machines, and different for different data sets.
    """
    return _describe_setting(experiment.data)


def _describe_setting(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        settings = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return f"{type(value).__name__}({', '.join(f'{name}={_describe_setting(v)}' for name, v in settings.items())})"
    if not isinstance(value, Path):
        return str(value)
    if not value.is_file():
        return value.name
    return f"{value.name} {hashlib.sha256(value.read_bytes()).hexdigest()[:12]}"


def _differences(there: Any, now: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name of every field that differs between two JSON values, and a text that describes the difference."""
    if isinstance(there, dict) and isinstance(now, dict) and there.get("type") == now.get("type"):
        for key in dict.fromkeys([*there, *now]):
            yield from _differences(there.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif there != now:
        yield name, f"{name or 'experiment'} is {json.dumps(there)} there and {json.dumps(now)} here"
