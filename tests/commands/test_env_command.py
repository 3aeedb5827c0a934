"""`ugs env` prints what a report of a problem needs, and no paths."""

import importlib.metadata
import platform
from pathlib import Path

import jax

from ugs_jax.cli import main


def test_env_names_python_the_packages_and_every_device(capsys):
    assert main(["env"]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["python"] == platform.python_version()
    for package in ("jax", "flax", "optax", "numpy", "tensorflow-datasets"):
        assert rows[package] == importlib.metadata.version(package)
    assert rows["gcsfs"] in ("not installed", *_installed("gcsfs"))
    assert rows["memory"].endswith("GiB")
    assert rows["processes"] == "1"
    assert rows["backend"].startswith(jax.default_backend())


def test_env_prints_no_paths(capsys):
    assert main(["env"]) == 0
    assert str(Path.home()) not in capsys.readouterr().out


def _installed(package: str) -> list[str]:
    try:
        return [importlib.metadata.version(package)]
    except importlib.metadata.PackageNotFoundError:
        return []
