"""The package as users see it: names, version, import time, and layout of folders."""

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jaxtyping
import pytest

import ugs_jax

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("ugs_jax", "data_pipeline", "experiments")
HEAVY = ("cv2", "flax", "grain", "matfree", "matplotlib", "orbax", "tensorflow", "tensorflow_datasets", "tyro")


def _modules_loaded_by(statement: str) -> set[str]:
    """Top-level names in `sys.modules` after `statement` in a fresh interpreter."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


def _imported_by(path: Path) -> set[str]:
    """Top-level names that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {
        name.partition(".")[0]
        for name in plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    }


FUNCTIONS = {"load": "runs", "stabilize_loss": "stabilize", "ugs_stabilize": "stabilize"}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_the_functions_that_users_call_first_are_at_the_top_level(name):
    assert getattr(ugs_jax, name) is getattr(importlib.import_module(f"ugs_jax.{FUNCTIONS[name]}"), name)
    assert name in dir(ugs_jax)


@pytest.mark.parametrize(
    "name", [name for name in ugs_jax.__all__ if not name.startswith("_") and name not in FUNCTIONS]
)
def test_every_other_public_name_is_a_module_that_imports(name):
    assert getattr(ugs_jax, name) is importlib.import_module(f"ugs_jax.{name}")
    assert name in dir(ugs_jax)


def test_a_type_checker_sees_the_names_of_the_running_package():
    tree = ast.parse((ROOT / "ugs_jax/__init__.py").read_text())
    seen = {alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen - {None} == set(ugs_jax.__all__)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'loses'; its public names are .*losses"):
        _ = ugs_jax.loses


def test_the_package_itself_imports_nothing_heavy():
    assert not {*HEAVY, "jax"} & _modules_loaded_by("import ugs_jax")


def test_boxes_labels_and_losses_need_jax_and_optax_only():
    loaded = _modules_loaded_by("import ugs_jax; ugs_jax.boxes, ugs_jax.labels, ugs_jax.losses")
    assert "jax" in loaded
    assert not set(HEAVY) & loaded


def test_the_data_pipeline_does_not_load_the_library_or_a_framework():
    assert not {"ugs_jax", "flax", "tensorflow", "torch"} & _modules_loaded_by("import data_pipeline")


def test_versions_agree():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", ugs_jax.__version__)
    assert f"\nversion: {ugs_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_installed_distribution_ships_types_and_the_command():
    """Holds for a copy in site-packages and for an editable install; skipped where neither is."""
    try:
        distribution = importlib.metadata.distribution("ugs-jax")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("ugs-jax is not installed here: the tests run from the checkout")
    if (distribution.read_text("direct_url.json") or "").find('"editable": true') < 0:
        shipped = {str(file) for file in distribution.files or ()}
        assert {"ugs_jax/py.typed", "ugs_jax/__init__.py", "data_pipeline/__init__.py"} <= shipped
    offered = {(entry.group, entry.name): entry.value for entry in distribution.entry_points}
    groups = {"console_scripts": PYPROJECT["project"]["scripts"], **PYPROJECT["project"]["entry-points"]}
    assert offered == {(group, name): value for group, names in groups.items() for name, value in names.items()}


def test_types_are_marked_as_shipped():
    assert (ROOT / "ugs_jax/py.typed").read_text() == ""


def test_the_top_level_is_as_designed():
    packages = {path.parent.name for path in ROOT.glob("*/*.py")}
    assert packages == {*PACKAGES, "tests", "docs"}  # docs has the settings of the documentation site


def test_every_third_party_import_is_a_declared_dependency():
    """Extras count where they are used alone; a package that is not installed goes by its import.

    Objects of supervision and FiftyOne are made for those who have these packages already.
    """
    required = _names(PYPROJECT["project"]["dependencies"])
    extras = {"benchmark": "benchmarks", "onnx": "onnx"}  # by the folder that uses them
    extra = {folder: _names(PYPROJECT["project"]["optional-dependencies"][name]) for name, folder in extras.items()}
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in _imported_by(path) - sys.stdlib_module_names - {*PACKAGES, "fiftyone", "supervision"}
        if not required.union(*(names for folder, names in extra.items() if folder in path.parts))
        & {re.sub(r"[-_.]+", "-", provider).lower() for provider in providers.get(name, [name])}
    }
    assert undeclared == set()


def _names(requirements: list[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=,; ]", line)[0]).lower() for line in requirements}


def test_no_module_postpones_its_annotations():
    """Shapes in annotations are checked at run time, which postponed annotations would switch off."""
    postponed = [
        str(path.relative_to(ROOT))
        for package in (*PACKAGES, "tests")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"^from __future__ import annotations", path.read_text(), re.MULTILINE)
    ]
    assert postponed == []


def test_shapes_are_checked_in_these_tests():
    with pytest.raises(jaxtyping.TypeCheckError, match="uniform_grid"):
        ugs_jax.labels.uniform_grid(alpha="wide", n=2)


def test_the_tests_run_on_the_cpu_with_a_cache_of_their_own(cache_folder):
    assert "cpu" in os.environ["JAX_PLATFORMS"]
    assert os.environ["UGS_CACHE"] == cache_folder
