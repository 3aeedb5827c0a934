"""Import and registration of users' Python files. Error messages keep the file and line of the error."""

import importlib
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from ugs_jax.experiment.registry import objects_of, register_module

_FOLDERS: set[str] = set()
"""Folders that were added to `sys.path` for imported files."""
_FILES: dict[str, Path] = {}
"""Imported files by module name."""


def import_file(file: Path, explain: Callable[[Exception], str] = str) -> ModuleType:
    """Run a Python file as a module named after the file, and register the classes and functions that it defines.

    The folder of the file is added to the end of `sys.path`. The file and worker processes can therefore import the
    files beside it, and no installed module is hidden. A file that was imported before is run again.

    Args:
      file: Python file.
      explain: Function that returns the message of an error.

    Returns:
      The imported module.

    Raises:
      ValueError: The file does not exist, it has the name of another module, or running it fails. In the last case the
        message has the file and line of the error.
    """
    if not file.is_file():
        raise ValueError(f"{file}: expected a Python file, found none; check the path")
    name, folder = file.stem.replace(".", "_"), str(file.resolve().parent)
    loaded = sys.modules.get(name)
    if loaded is not None and name not in _FILES and _file_of(loaded) == file.resolve():  # imported by another file
        register_module(loaded)
        return loaded
    _check_free(name, file)
    if folder not in sys.path:
        sys.path.append(folder)
        _FOLDERS.add(folder)
    spec = spec_from_file_location(name, file.resolve())
    assert isinstance(spec, ModuleSpec)
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # while it runs, its classes and functions must be found by name
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise ValueError(_located(error, file, explain)) from error
    _FILES[name] = file.resolve()
    register_module(module)
    return module


def import_named(name: str) -> None:
    """Import a module by its name, or a Python file by its path, and register its classes and functions.

    Raises:
      ValueError: The module or file does not exist, or importing it fails.
    """
    if name.endswith(".py"):
        import_file(Path(name))
        return
    try:
        register_module(importlib.import_module(name))
    except ImportError as error:
        raise ValueError(
            f"--import {name}: {error}; give a module that can be imported, or a Python file such as {name}.py"
        ) from error


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve()


def _check_free(name: str, file: Path) -> None:
    """Raise a ValueError if the module of a file would hide another module, imported or not."""
    before = _FILES.get(name)
    if before is not None:
        if before != file.resolve() and objects_of(name):
            raise ValueError(
                f"{file}: expected a name that no other config file has, got the name of {before}, which defines "
                f"{', '.join(objects_of(name))}; rename one of the files"
            )
        return
    others = [entry for entry in sys.path if entry not in _FOLDERS and Path(entry).resolve() != file.resolve().parent]
    spec = PathFinder.find_spec(name, others)
    if name in sys.modules or (spec is not None and spec.loader is not None):
        raise ValueError(
            f"{file}: expected a name that no other module has, got the name of the module {name!r}; rename the file"
        )


def _located(error: Exception, file: Path, explain: Callable[[Exception], str]) -> str:
    """Return `file:line: message`. The line is the last one in the file that led to the error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}:{error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{file}:{lines[-1]}: {kind}{explain(error)}" if lines else f"{file}: {kind}{explain(error)}"
