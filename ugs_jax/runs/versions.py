"""Versions of the code that trains: this package, with its commit if it is known, and the packages it uses."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from collections import Counter
from pathlib import Path

import jax

from ugs_jax._version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_DECISIVE = ("code", "jax", "jaxlib")
"""Names in `versions` whose change may change the rounding of results."""


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of `ugs-jax`, of its `code` (the commit, if it is known) and of the packages it uses."""
    code = _commit(Path(__file__).parents[2]) or f"ugs-jax {__version__}"
    return {"ugs-jax": __version__, "code": code, **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def environment() -> dict[str, str]:
    """Return the versions of Python and of the system, and the devices of all processes, as text."""
    kinds = Counter(device.device_kind for device in jax.devices())
    devices = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
    return {"python": platform.python_version(), "system": platform.platform(), "devices": devices}


def other_versions(before: dict[str, str]) -> str:
    """Describe the versions that differ from those of a checkpoint and may change results; empty if there are none.

    Args:
      before: Result of `versions` when the checkpoint was written.
    """
    now = versions()
    other = [name for name in _DECISIVE if before[name] != now[name]]
    return "; ".join(f"{name} was {before[name]} and is {now[name]}" for name in other)


def _commit(root: Path) -> str | None:
    """Return the commit of a checkout, with `-dirty` if files were changed; None without a checkout or without git."""
    if not (root / ".git").exists():
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
