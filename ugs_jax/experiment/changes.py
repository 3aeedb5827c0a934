"""Settings of a saved experiment that differ from their defaults."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from ugs_jax.experiment.registry import look_up, saved_fields
from ugs_jax.experiment.serialize import KNOWN_TYPES, to_json


class Setting(NamedTuple):
    """One setting of an experiment.

    Attributes:
      name: Name of the field, with dots between the fields of nested objects.
      value: Value as text. An object is shown by the name of its class.
      default: Default as text; empty for a field without a default.
    """

    name: str
    value: str
    default: str


def changed_settings(experiment: Any) -> list[Setting]:
    """Return the settings that differ from the defaults of their dataclasses. Nothing is imported or executed.

    If an object is of another class than the default, its class is listed, and then its fields that differ from the
    defaults of its own class. All fields are listed for classes that this process does not know.

    Args:
      experiment: JSON values of `to_json`, from `config.json`. Fields that are missing have their defaults.
    """
    return list(_changes("", experiment, _MISSING)) if isinstance(experiment, dict) else []


_MISSING = object()


def _changes(name: str, value: Any, default: Any) -> Iterator[Setting]:
    if not (isinstance(value, dict) and isinstance(value.get("type"), str)):
        if default is _MISSING or _text(value) != _text(default):
            yield Setting(name, _text(value), "" if default is _MISSING else _text(default))
        return
    if name and not (isinstance(default, dict) and default.get("type") == value["type"]):
        yield Setting(name, _text(value), "" if default is _MISSING else _text(default))
        default = _MISSING
    defaults = default if isinstance(default, dict) else _defaults(value["type"])
    for field, part in value.items():
        if field != "type":
            yield from _changes(f"{name}.{field}" if name else field, part, defaults.get(field, _MISSING))


def _defaults(kind_name: str) -> dict[str, Any]:
    """Return the defaults of the fields of a class as JSON values; without the fields that have none."""
    try:
        kind = KNOWN_TYPES.get(kind_name) or look_up(kind_name)
    except ValueError:
        return {}
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return {}
    defaults = {}
    for field in saved_fields(kind):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = to_json(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = to_json(field.default_factory())
    return defaults


def _text(value: Any) -> str:
    """Return a JSON value as text: the class of an object, the call of a function, the path of a file."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            return str(value["type"])
        if set(value) == {"path"}:
            return str(value["path"])
        if "function" in value:
            arguments = value.get("arguments") or {}
            given = ", ".join(f"{key}={_text(part)}" for key, part in arguments.items()) if arguments else ""
            return f"{value['function']}({given})" if given else str(value["function"])
    if isinstance(value, list):
        return f"({', '.join(_text(part) for part in value)})"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
