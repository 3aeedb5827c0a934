"""Registry of the classes and functions of users, by which a run folder can save and load them.

A saved config refers to a user's class or function as `module:qualname`. Loading a config never imports a module. It
finds only names that this process has registered. Names are registered in two ways.

- Building an `Experiment` registers each class and function in it, and nothing else in their modules.
- `register_module` registers everything that a module defines: the user's config file, or the argument of `--import`.

A config from an unknown source can therefore reach no other code, not even code in modules that are already imported.
The registry belongs to the process, like `sys.modules`, because a process decides which code it trusts.
"""

import dataclasses
import difflib
import functools
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

_OBJECTS: dict[str, tuple[Any, str | None]] = {}
"""Registered objects and the files that define them, by name."""
_MODULES: set[str] = set()
"""Modules and packages with all their classes and functions registered."""


def register_module(module: ModuleType) -> None:
    """Allow configs to use the functions and dataclasses that a module, or the modules of a package, define."""
    name = _public_name(module.__name__)
    _MODULES.add(name)
    for outdated in [known for known in objects_of(name) if name_of(_OBJECTS[known][0]) != known]:
        del _OBJECTS[outdated]  # from an earlier version of the module


def objects_of(module: str) -> list[str]:
    """Return the registered names of the classes and functions of a module that experiments use."""
    return [name for name in _OBJECTS if name.startswith(f"{module}:")]


def register(value: Any, where: str = "config") -> None:
    """Check that a value can be saved, and allow configs to use the classes and functions in it.

    Args:
      value: A dataclass, function, `functools.partial`, number, text, path, None, or a list of these.
      where: Location of the value in the config, for error messages.

    Raises:
      ValueError: The value cannot be saved. The message names the location and the fix.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        _register_object(type(value), where)
        for field in saved_fields(value):
            register(getattr(value, field.name), f"{where}.{field.name}")
    elif isinstance(value, functools.partial):
        _register_object(value.func, where)
        _check_arguments(value, where)
        for name, argument in value.keywords.items():
            register(argument, f"{where}({name}=…)")
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            register(item, f"{where}[{i}]")
    elif callable(value):
        _register_object(value, where)
    elif not (value is None or isinstance(value, (bool, int, float, str, Path))):
        raise ValueError(
            f"{where}: expected a dataclass, function, number, text or None, which a run folder can save, got "
            f"{value!r}; make {type(value).__name__} a dataclass (@dataclass(frozen=True)) at the top level of a module"
        )


def look_up(name: str, where: str = "config") -> Any:
    """Return the registered class or function with the name `module:qualname`.

    Raises:
      ValueError: No class or function of this name is registered. The message explains `--import`.
    """
    if name in _OBJECTS:
        return _OBJECTS[name][0]
    module, _, qualname = name.partition(":")
    if module == "__main__":
        raise ValueError(
            f"{where}: expected a class or function of a module, got {name!r}, which was defined in a notebook or an "
            "interactive session; define it there again under the same name and build an Experiment with it"
        )
    packages = [module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)]
    if not _MODULES.intersection(packages):
        raise ValueError(
            f"{where}: expected a registered class or function, got {name!r}. If you trust the source of the config, "
            f"pass --import with the run's config file, or with the module that defines it: --import {module}"
        )
    namespace = vars(sys.modules.get(_loaded_name(module), ModuleType(module)))
    member = _member(namespace, qualname)
    if member is None or name_of(member) != name:
        defined = [key for key, value in namespace.items() if callable(value) and name_of(value) == f"{module}:{key}"]
        raise ValueError(f"{where}: {module} defines no {qualname!r}{suggestion(qualname, defined)}")
    return member


def name_of(value: Any) -> str | None:
    """Return the name `module:qualname` of a class or function, or None if it cannot be found by its name."""
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module not in sys.modules:
        return None
    if _member(vars(sys.modules[module]), qualname) is not value:
        return None
    return f"{_public_name(module)}:{qualname}"


def saved_fields(value: Any) -> list[dataclasses.Field[Any]]:
    """Return the fields of a dataclass that are saved, which are those that its constructor takes."""
    return [field for field in dataclasses.fields(value) if field.init]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` if a known name is similar, otherwise the list of known names."""
    known = sorted(known)
    if not known:
        return ""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


def _register_object(value: Any, where: str) -> None:
    name = name_of(value)
    if name is None:
        shown = getattr(value, "__qualname__", None) or repr(value)
        raise ValueError(
            f"{where}: expected a class or function at the top level of a module, which can be saved by its name, "
            f"got {shown}; define it with `class` or `def` in the config file or a module, and set its arguments by "
            "functools.partial(function, name=value)"
        )
    file = getattr(sys.modules[value.__module__], "__file__", None)
    before, source = _OBJECTS.get(name, (value, file))
    if before is not value and source != file:
        raise ValueError(
            f"{where}: expected one file that defines {name}, got {source} and {file}; rename one of the files"
        )
    _OBJECTS[name] = value, file


def _check_arguments(value: functools.partial[Any], where: str) -> None:
    name = getattr(value.func, "__name__", repr(value.func))
    if value.args:
        raise ValueError(
            f"{where}: expected arguments by name in the partial of {name}, got {', '.join(map(repr, value.args))}; "
            f"write partial({name}, name=value)"
        )
    try:
        parameters = inspect.signature(value.func).parameters
    except (TypeError, ValueError):  # some compiled functions have no signature
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for argument in value.keywords:
        if argument not in parameters:
            raise ValueError(f"{where}: {name} has no argument {argument!r}{suggestion(argument, parameters)}")


def _member(namespace: Any, qualname: str) -> Any:
    """Return the object of a dotted name in a module, without calling the `__getattr__` of the module."""
    first, *rest = qualname.split(".")
    return functools.reduce(lambda owner, part: getattr(owner, part, None), rest, dict(namespace).get(first))


def _public_name(module: str) -> str:
    """Return the name by which another process can import a module. For a script, this is the name of its file."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return spec.name if spec is not None else Path(file).stem if file else module


def _loaded_name(module: str) -> str:
    return "__main__" if module not in sys.modules and module == _public_name("__main__") else module
