"""Which code trains: ours, to the commit where that is known, and JAX and what else decides on numbers."""

import functools
import importlib.metadata
import os
import subprocess
from pathlib import Path

from ugs_jax._version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_DECISIVE = ("code", "jax", "jaxlib")
"""Those of which another one may round otherwise."""


@functools.cache
def versions() -> dict[str, str]:
    """Of the code that trains: `ugs-jax`, `code` to the commit, and the packages it uses."""
    code = _commit(Path(__file__).parents[2]) or f"ugs-jax {__version__}"
    return {"ugs-jax": __version__, "code": code, **{name: importlib.metadata.version(name) for name in _PACKAGES}}


def other_versions(before: dict[str, str]) -> str:
    """What is another now than it was for a checkpoint, of what may change numbers; empty if nothing is.

    Args:
      before: what `versions` gave then; what it lacks is not compared.
    """
    now = versions()
    other = [name for name in _DECISIVE if name in before and before[name] != now[name]]
    return "; ".join(f"{name} was {before[name]} and is {now[name]}" for name in other)


def _commit(root: Path) -> str | None:
    """The commit of a checkout, with `-dirty` if its files were changed; None where there is no checkout or no git."""
    if not (root / ".git").exists():
        return None
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        said = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
