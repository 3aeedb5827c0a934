"""Fields of an experiment on the command line, for any classes of data set, objective, detector and optimizer.

tyro reads options from the fields of a class. Some fields of an `Experiment` are typed by protocols, and protocols have
no fields. `mirror` therefore makes dataclasses with the same fields, each typed by the class of its current value, and
`restore` converts them back.
"""

import ast
import dataclasses
import inspect
import re
import typing
from functools import partial
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

T = TypeVar("T")


def mirror(value: Any) -> Any:
    """Return an instance of a new dataclass that has the same fields and that tyro can show and change."""
    from ugs_jax.experiment.registry import saved_fields

    hints = _hints(type(value))
    fields = []
    for field in saved_fields(value):
        given = getattr(value, field.name)
        default = mirror(given) if _is_settings(given) else given
        kind = _kind(given, default, hints.get(field.name, type(given)))
        fields.append((field.name, kind, dataclasses.field(default_factory=partial(_same, default))))
    namespace = {name: getattr(type(value), name) for name in ("__module__", "__qualname__", "__doc__")}
    return dataclasses.make_dataclass(type(value).__name__, fields, namespace=namespace, frozen=True)()


def restore(value: T, changed: Any) -> T:
    """Return a dataclass with the values of its mirror.

    Args:
      value: Dataclass that was passed to `mirror`.
      changed: Mirror of the dataclass, with changed values.
    """
    from ugs_jax.experiment.registry import saved_fields

    fields = {}
    for field in saved_fields(value):
        before, now = getattr(value, field.name), getattr(changed, field.name)
        fields[field.name] = restore(before, now) if _is_settings(before) else now
    return dataclasses.replace(typing.cast("Any", value), **fields)


def parse_function(text: str) -> Any:
    """Return the function that a text names, with its arguments: `ciou`, `nwd(constant=20)`, `mine:loss(power=3)`.

    Raises:
      ValueError: The text does not have this form, or the function is unknown.
    """
    from ugs_jax.experiment.serialize import function_named

    match = re.fullmatch(r"\s*([\w.:]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    arguments = _arguments(match[2] or "") if match else None
    if match is None or arguments is None:
        raise ValueError(f"expected NAME or NAME(ARGUMENT=VALUE, …), such as nwd(constant=20), got {text!r}")
    function = function_named(match[1], text)
    return partial(function, **arguments) if arguments else function


def _arguments(text: str) -> dict[str, Any] | None:
    """Return the arguments of a call by name, or None if the text has anything other than named literals."""
    try:
        call: Any = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call.func, ast.Name) or call.args or any(word.arg is None for word in call.keywords):
            return None
        return {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, AttributeError):
        return None


def function_text(function: Any) -> str:
    """Return the text of a function, from which `parse_function` gives the function back."""
    from ugs_jax.experiment.serialize import short_name

    if not isinstance(function, partial):
        return short_name(function)
    arguments = ", ".join(f"{name}={value!r}" for name, value in function.keywords.items())
    return f"{short_name(function.func)}({arguments})"


_FUNCTION = PrimitiveConstructorSpec(
    nargs=1,
    metavar="NAME(ARGUMENT=VALUE)",
    instance_from_str=lambda words: parse_function(words[0]),
    is_instance=callable,
    str_from_instance=lambda function: [function_text(function)],
)


def _kind(given: Any, default: Any, hint: Any) -> Any:
    """Return the type that tyro uses for a field."""
    if _is_settings(given):
        kind: Any = type(default)
        if hint is type(given):
            return kind
        about = (inspect.getdoc(type(given)) or "").partition("\n\nAttributes:")[0]
        return Annotated[kind, tyro.conf.arg(help=about)]
    if callable(given):
        return Annotated[Any, _FUNCTION]
    if _holds_objects(given):
        return Annotated[Any, tyro.conf.Fixed]
    return hint


def _same(value: T) -> T:
    return value


def _is_settings(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _holds_objects(value: Any) -> bool:
    """Return True for a list that contains dataclasses or functions, which a command line cannot change."""
    return isinstance(value, (tuple, list)) and any(
        _is_settings(item) or callable(item) or _holds_objects(item) for item in value
    )


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError:  # a name that is imported for type checkers only
        return {}
