"""Every Python block of the README runs unchanged, in its own namespace."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    (README.count("\n", 0, match.start()) + 2, match[1]) for match in re.finditer(r"```python\n(.*?)```", README, re.S)
]


@pytest.mark.parametrize(("line", "code"), BLOCKS, ids=[f"line_{line}" for line, _ in BLOCKS])
def test_readme_block_runs(line, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile("\n" * (line - 1) + code, ROOT / "README.md", "exec"), {"__name__": "__main__"})


def test_readme_has_a_block_for_each_kind_of_user():
    assert len(BLOCKS) >= 3


def test_every_file_the_readme_links_to_exists():
    targets = [target for target in re.findall(r"\]\(([^)#]+)", README) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_extra_the_readme_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for group in re.findall(r'"\.\[([\w,]+)\]"', README) for extra in group.split(",")}
    assert named >= {"test", "dev"}
    assert named <= set(extras)
