"""What makes a run the same run: its settings but those that only say where and how fast, and its data by content."""

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
)
"""Fields that may be other when a run is resumed: they change where and how fast it is computed, not what."""


def differences(there: Any, now: Any) -> list[str]:
    """`field is old there and new here` for all that differs and may not, between two configs as JSON values."""
    return [text for name, text in _differences(there, now) if not name.startswith(_FREE)]


def describe_data(experiment: Experiment) -> str:
    """The data set's settings, with files by name and content: equal on two machines, different for two data sets."""
    data: Any = experiment.data
    settings = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    return f"{type(data).__name__}({', '.join(f'{name}={_describe_setting(v)}' for name, v in settings.items())})"


def _describe_setting(value: Any) -> str:
    if not isinstance(value, Path):
        return str(value)
    if not value.is_file():
        return value.name
    return f"{value.name} {hashlib.sha256(value.read_bytes()).hexdigest()[:12]}"


def _differences(there: Any, now: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The field, and `field.of.field is old there and new here`, for all that differs between two JSON values."""
    if isinstance(there, dict) and isinstance(now, dict) and there.get("type") == now.get("type"):
        for key in dict.fromkeys([*there, *now]):
            yield from _differences(there.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif there != now:
        yield name, f"{name or 'experiment'} is {json.dumps(there)} there and {json.dumps(now)} here"
