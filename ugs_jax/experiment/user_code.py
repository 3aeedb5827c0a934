"""Python files of users: imported as modules, registered, with errors that keep their file and line."""

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
"""Folders of imported files, which are on `sys.path` because of them."""
_FILES: dict[str, Path] = {}
"""Imported files by the names of their modules."""


def import_file(file: Path, explain: Callable[[Exception], str] = str) -> ModuleType:
    """Run a Python file as a module of its stem's name and register what it defines.

    The folder of the file goes to the end of `sys.path`: imports of files beside it work, here and in worker
    processes, and hide no installed module. A config that was imported before is run again.

    Args:
      file: Python file.
      explain: Makes the text of an error.

    Raises:
      ValueError: There is no such file, its name is that of another module, or an error in it, with file and line.
    """
    if not file.is_file():
        raise ValueError(f"{file}: expected a Python file, found none")
    name, folder = file.stem.replace(".", "_"), str(file.resolve().parent)
    there = sys.modules.get(name)
    if there is not None and name not in _FILES and _file_of(there) == file.resolve():  # imported by another file
        register_module(there)
        return there
    _check_free(name, file)
    if folder not in sys.path:
        sys.path.append(folder)
        _FOLDERS.add(folder)
    spec = spec_from_file_location(name, file.resolve())
    assert isinstance(spec, ModuleSpec)
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # before it runs, so that what it defines is found by name
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
    """Import a module by its name, or a Python file by its path, and register what it defines.

    Raises:
      ValueError: There is no such module or file, or an error in it.
    """
    if name.endswith(".py"):
        import_file(Path(name))
        return
    try:
        register_module(importlib.import_module(name))
    except ImportError as error:
        raise ValueError(
            f"--import {name}: {error}; give a module that can be imported, or a file: {name}.py"
        ) from error


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve()


def _check_free(name: str, file: Path) -> None:
    """Raise ValueError for a file that would hide a module that is imported, or that others import."""
    before = _FILES.get(name)
    if before is not None:
        if before != file.resolve() and objects_of(name):
            raise ValueError(
                f"{file}: expected a name that no other file has, got that of {before}, which defines "
                f"{', '.join(objects_of(name))}; rename one of the files"
            )
        return
    others = [entry for entry in sys.path if entry not in _FOLDERS and Path(entry).resolve() != file.resolve().parent]
    spec = PathFinder.find_spec(name, others)
    if name in sys.modules or (spec is not None and spec.loader is not None):
        raise ValueError(f"{file}: expected a name that no other module has, got that of {name!r}; rename the file")


def _located(error: Exception, file: Path, explain: Callable[[Exception], str]) -> str:
    """Return `file:line: message`, with the last line in the file that led to the error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or file}:{error.lineno}: {error.msg}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{file}:{lines[-1]}: {kind}{explain(error)}" if lines else f"{file}: {kind}{explain(error)}"
