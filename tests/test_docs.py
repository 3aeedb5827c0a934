"""Documentation: tutorials run, pages agree with the code, and every public name is documented."""

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
import runpy
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

import data_pipeline
import ugs_jax
from tests.compiling import compiled_quickly
from ugs_jax.cli import main
from ugs_jax.curvature import BEYOND, SUPPLEMENT
from ugs_jax.experiment.user_code import import_file

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCKS = [
    (page, page.read_text().count("\n", 0, match.start()) + 2, match[1])
    for page in PAGES
    for match in re.finditer(r"```python\n(.*?)```", page.read_text(), re.S)
]
FILE = re.compile(r"# (\w+\.py)\n")
PACKAGES = (
    "boxes",
    "analysis",
    "curvature",
    "detectors",
    "evaluation",
    "experiment",
    "inference",
    "losses",
    "objectives",
    "planning",
    "report",
    "runs",
    "stabilize",
    "training",
    "weights",
)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "docs" / "tutorials").glob("*.py")))
def test_tutorial_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = {"why_small_boxes_diverge": ["wells.png"]}
    monkeypatch.setattr(sys, "argv", [name, *pictures.get(name, [])])
    runpy.run_path(str(ROOT / "docs" / "tutorials" / f"{name}.py"), run_name="__main__")
    assert all((tmp_path / picture).exists() for picture in pictures.get(name, []))


@pytest.fixture(scope="module")
def files_of_pages(tmp_path_factory):
    """A folder for each page with its blocks that are files, which begin with `# NAME.py`."""
    folders = {page: tmp_path_factory.mktemp(page.stem) for page in PAGES}
    for page, _, code in BLOCKS:
        if named := FILE.match(code):
            (folders[page] / named[1]).write_text(code)
    return folders


@pytest.mark.parametrize(("page", "line", "code"), BLOCKS, ids=[f"{page.stem}_{line}" for page, line, _ in BLOCKS])
def test_block_runs(page, line, code, tmp_path, monkeypatch, files_of_pages):
    monkeypatch.chdir(tmp_path)
    if named := FILE.match(code):
        import_file(files_of_pages[page] / named[1])
        return
    exec(compile("\n" * (line - 1) + code, page, "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_what_a_user_brings_trains_resumes_and_is_scored(files_of_pages, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = str(files_of_pages[ROOT / "docs" / "bring_your_own.md"] / "mine.py")
    words = ["train", mine, "--data.images", "8", "--localization.box-loss", "my_loss:alpha_iou(alpha=1.5)"]
    with compiled_quickly():
        assert main(words) == 0
        assert main([*words, "--resume"]) == 0
        assert main(["eval", "runs/mine-seed0", "--import", mine]) == 0
    assert main(["export", "runs/mine-seed0", f"--import={mine}"]) == 1
    assert "got ThreeLayersDetector; use --format stablehlo" in capsys.readouterr().err
    config = json.loads(Path("runs/mine-seed0/config.json").read_text())["experiment"]
    assert config["data"] == {"type": "my_data:Squares", "images": 8}
    assert config["localization"]["box_loss"] == {"function": "my_loss:alpha_iou", "arguments": {"alpha": 1.5}}
    assert config["optimizer"]["chain"] == {"function": "my_optimizer:my_chain", "arguments": {"momentum": 0.95}}
    code = "import sys; from ugs_jax.cli import main; sys.exit(main(sys.argv[1:]))"
    elsewhere = [sys.executable, "-c", code, "eval", str(tmp_path / "runs/mine-seed0"), "--calibration"]
    shown = subprocess.run(elsewhere, cwd=ROOT, capture_output=True, text=True, check=False)
    assert shown.returncode == 1
    assert "--import my_" in shown.stderr
    shown = subprocess.run([*elsewhere, "--import", mine], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "got SideDistances, which predicts no deviations" in shown.stderr


def test_every_file_the_pages_link_to_exists():
    for page in PAGES:
        targets = [target for target in re.findall(r"\]\(([^)#]+)", page.read_text()) if "://" not in target]
        assert [target for target in targets if not (page.parent / target).exists()] == [], page.name


@pytest.mark.parametrize("equation", [*SUPPLEMENT, *BEYOND], ids=lambda equation: equation.number)
def test_the_table_of_equations_agrees_with_the_code(equation):
    page = (ROOT / "docs" / "verify.md").read_text()
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {equation.number} |")]
    assert equation.title.replace("|", "\\|") in row
    assert equation.remark.replace("|", "\\|") in row


def entries_of(value, section):
    """The names that a section of a docstring describes, each with a line of its own."""
    found = re.search(rf"^{section}:\n((?:  .*\n|\n)+)", (inspect.getdoc(value) or "") + "\n", re.M)
    lines = found[1].splitlines() if found else []
    heads = [match[1] for line in lines if (match := re.match(r"  ([\w*][\w*, ]*):(?: |$)", line))]
    return {name.strip(" *") for head in heads for name in head.split(",")}


def public_names():
    """(module, name) of everything in an `__all__` or imported by `data_pipeline`; modules with an underscore aside."""
    for package in (ugs_jax, data_pipeline):
        names = [
            package.__name__,
            *(info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
        ]
        for name in names:
            if not any(part.startswith("_") for part in name.split(".")):
                for public in getattr(importlib.import_module(name), "__all__", ()):
                    if public != "__version__":
                        yield name, public
    for name, value in vars(data_pipeline).items():  # re-exported as `import name as name`, without an `__all__`
        if not name.startswith("_") and not inspect.ismodule(value):
            yield "data_pipeline", name


PUBLIC = sorted(set(public_names()))

DOCUMENTED_ELSEWHERE = {
    (method, argument)
    for module, name in PUBLIC
    if getattr(protocol := getattr(importlib.import_module(module), name), "_is_protocol", False)
    for method, function in vars(protocol).items()
    if inspect.isfunction(function)
    for argument in entries_of(function, "Args")
}
"""Arguments that a protocol documents, so that the classes with its methods need not."""


def test_there_are_public_names():
    assert {module.split(".")[1] for module, _ in PUBLIC if module.startswith("ugs_jax.")} >= set(PACKAGES)
    assert {name for module, name in PUBLIC if module == "data_pipeline"} >= {"Batch", "TrainLoader", "prefetch"}


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[".".join(pair) for pair in PUBLIC])
def test_public_name_is_documented(module, name):
    value = getattr(importlib.import_module(module), name)
    if inspect.ismodule(value):
        assert value.__doc__
    elif inspect.isfunction(value):
        assert undocumented(value) == [], f"{module}.{name}"
    elif inspect.isclass(value):
        assert inspect.getdoc(value), f"{module}.{name}"
        known = {entry for kind in value.__mro__ for entry in entries_of(kind, "Attributes")}
        assert [field for field in fields_of(value) if field not in known] == []
        for method, function in vars(value).items():
            if inspect.isfunction(function) and not method.startswith("_") and method not in fields_of(value):
                assert undocumented(function, value) == [], f"{module}.{name}.{method}"
    else:
        assert constant_is_described(importlib.import_module(module), name)


def test_an_argument_counts_as_documented_only_by_a_line_of_its_own():
    def function(first, second, *rest):
        """Return first and second.

        Args:
          first: One number: the first.
          *rest: More
            second: numbers.
        """

    def without(first, second):
        """Return first and second."""

    assert undocumented(function) == ["second"]
    assert undocumented(without) == ["first", "second"]


def fields_of(kind):
    """The public fields of a dataclass or a named tuple."""
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else getattr(kind, "_fields", ())
    return [name for name in names if not name.startswith("_")]


def undocumented(function, kind=object):
    """The arguments without a line in the docstring, of a function that has two or more.

    The sentence at the top describes a single argument. Those of a method may also be described by the same method of a
    base class of `kind`, or of a protocol.
    """
    text, name = inspect.getdoc(function), function.__name__
    assert text, f"{function.__qualname__}: expected a docstring"
    arguments = [
        argument
        for argument, parameter in inspect.signature(function).parameters.items()
        if argument not in ("self", "cls") and parameter.kind is not parameter.VAR_KEYWORD
    ]
    if len(arguments) < 2:
        return []
    known = entries_of(function, "Args").union(*(entries_of(vars(base).get(name), "Args") for base in kind.__mro__))
    by_protocol = {argument for method, argument in DOCUMENTED_ELSEWHERE if method == name and kind is not object}
    return [argument for argument in arguments if argument not in known | by_protocol]


def constant_is_described(module, name):
    """A string after the assignment, in the module that defines the constant, or its name in a module's docstring."""
    body = ast.parse(Path(module.__file__).read_text()).body
    for first, second in itertools.pairwise(body):
        targets = getattr(first, "targets", [getattr(first, "target", None)])
        if any(getattr(target, "id", None) == name for target in targets) and isinstance(second, ast.Expr):
            return True
    origins = [
        node.module
        for node in body
        if isinstance(node, ast.ImportFrom) and name in (alias.asname or alias.name for alias in node.names)
    ]
    return f"`{name}`" in (module.__doc__ or "") or any(
        constant_is_described(importlib.import_module(origin), name) for origin in origins
    )
