"""Loggers by their names on the command line: `--logger MODULE:NAME` or `--logger FILE.py:NAME`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ugs_jax.training import RunLogger


def load_loggers(names: Sequence[str]) -> "list[RunLogger]":
    """Return the loggers that classes or functions without arguments make.

    Args:
      names: Names such as `my_loggers:WandbLogger` or `my_loggers.py:WandbLogger`.

    Raises:
      ValueError: A name has another form, its module cannot be imported or has no such member, or the call fails.
    """
    return [_load(name) for name in names]


def _load(name: str) -> Any:
    from ugs_jax.experiment.registry import suggestion
    from ugs_jax.experiment.user_code import import_file, import_named

    module, _, member = name.rpartition(":")
    if not module or not member.isidentifier():
        raise ValueError(
            f"--logger {name}: expected MODULE:NAME or FILE.py:NAME; write for example --logger my_loggers.py:MyLogger"
        )
    if module.endswith(".py"):
        namespace = vars(import_file(Path(module)))
    else:
        try:
            import_named(module)
        except ValueError as error:
            raise ValueError(str(error).replace("--import", "--logger", 1)) from error
        namespace = vars(sys.modules[module])
    if not callable(namespace.get(member)):
        known = [key for key, value in namespace.items() if isinstance(value, type) and not key.startswith("_")]
        raise ValueError(f"--logger {name}: {module} defines no {member!r}{suggestion(member, known)}")
    try:
        return namespace[member]()
    except Exception as error:
        raise ValueError(
            f"--logger {name}: expected to call {member}() without arguments, got {type(error).__name__}: {error}; "
            "write a function that makes the logger"
        ) from error
