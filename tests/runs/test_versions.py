"""Versions: the code that trains is known by its commit, and a change is reported when a run is resumed."""

import json
import os
import shutil
import subprocess
from types import SimpleNamespace

import jax
import pytest

from tests.training.short_runs import short_runs
from tests.training.toy import toy_experiment
from ugs_jax._version import __version__
from ugs_jax.runs import versions

EXPERIMENT = toy_experiment(seed=5)


@pytest.fixture(scope="module", autouse=True)
def stopped(tmp_path_factory):
    """A run that was stopped after step 4."""
    cache, data, base = (tmp_path_factory.mktemp(name) for name in ("cache", "data", "stopped"))
    with short_runs(EXPERIMENT, {3: 0.1, 6: 0.2}, cache, data) as train:
        train(base / "run", stop_after=4)
        yield SimpleNamespace(train=train, folder=base / "run")


def notes(folder):
    (file,) = (folder / "checkpoints" / "last" / "4").glob("notes/metadata")
    return json.loads(file.read_text())


def test_a_checkpoint_has_step_position_in_the_data_seed_config_and_versions(stopped):
    found = notes(stopped.folder)
    assert found["step"] == 4
    assert found["loader"] == {"next_step": 4, "seed": 5, "batch_size": 4}
    assert found["pending"] == []
    assert found["experiment"]["seed"] == 5
    assert found["versions"] == versions.versions()
    assert json.loads((stopped.folder / "config.json").read_text())["versions"] == versions.versions()
    assert found["versions"]["jax"] == jax.__version__
    assert found["versions"]["ugs-jax"] == __version__


def test_resuming_with_another_jax_or_commit_is_reported(stopped, monkeypatch, caplog):
    now = versions.versions()
    monkeypatch.setattr(versions, "versions", lambda: now | {"jax": "99", "numpy": "99", "code": "other"})
    stopped.train(stopped.folder, resume=True)
    assert f"jax was {now['jax']} and is 99" in caplog.text
    assert f"code was {now['code']} and is other" in caplog.text
    assert "numpy" not in caplog.text


def test_equal_versions_need_no_warning():
    assert versions.other_versions(versions.versions()) == ""


def git(folder, *words):
    identity = {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-C", folder, *words], check=True, capture_output=True, text=True, env=os.environ | identity
    )
    return done.stdout.strip()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_version_of_a_checkout_is_its_commit_and_whether_files_were_changed(tmp_path, monkeypatch):
    assert versions._commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "v1")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert versions._commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert versions._commit(tmp_path) == f"{commit}-dirty"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert versions._commit(tmp_path) is None
