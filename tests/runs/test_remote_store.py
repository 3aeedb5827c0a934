"""File stores of runs at URLs: files, claims, and uploads at the end of a run."""

import shlex
import subprocess
import sys

import pytest
from fsspec.registry import _registry

from tests.training.store import Store, files
from ugs_jax.runs import PreemptedError
from ugs_jax.runs.remote import store as remote_store
from ugs_jax.runs.remote.mirror import Mirror
from ugs_jax.runs.remote.store import Remote, RemoteError
from ugs_jax.runs.remote.upload import FencedError, Upload
from ugs_jax.training import NonFiniteError

URL = "store://bucket/run"


@pytest.fixture(autouse=True)
def empty_store(monkeypatch):
    monkeypatch.setattr(remote_store, "PAUSES", (0.0, 0.0))
    Store.begin()


def test_the_command_in_an_error_message_copies_the_run(tmp_path):
    folder, there = tmp_path / "run", tmp_path / "bucket" / "run"
    (folder / "checkpoints" / "last").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "checkpoints" / "last" / "file").write_text("content")
    _, *words = shlex.split(Mirror(f"file://{there}", folder)._by_hand().partition("by hand: ")[2])
    subprocess.run([sys.executable, *words], check=True)
    assert (there / "config.json").read_text() == "{}"
    assert (there / "checkpoints" / "last" / "file").read_text() == "content"


def test_a_run_stops_if_its_remote_files_are_removed(tmp_path):
    upload = Upload(Remote(URL), tmp_path)
    upload.claim(-1)
    Store.begin()
    (tmp_path / "config.json").touch()
    with pytest.raises(FencedError, match="nobody: its files were removed"):
        upload.run()
    assert files() == {}


@pytest.mark.parametrize("error", [PreemptedError, NonFiniteError, OSError])
def test_a_run_that_ends_with_an_error_is_uploaded_and_the_error_is_raised(error, tmp_path):
    mirror = Mirror(URL, tmp_path)
    mirror.claim()
    for name in ("config.json", "non_finite_batch_step_3.npz"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(error, match="so it is"), mirror:
        raise error("so it is")
    assert {"config.json", "non_finite_batch_step_3.npz"} <= Remote(URL).names()


@pytest.mark.parametrize(("url", "package", "extra"), [("gs://b/run", "gcsfs", "gcs"), ("s3://b/run", "s3fs", "s3")])
def test_a_missing_package_is_named(url, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(_registry, url.partition(":")[0], raising=False)  # of another test
    with pytest.raises(ValueError, match=rf'found none; in a checkout of this project, pip install "\.\[{extra}\]"'):
        Remote(url)


def test_an_unknown_protocol_is_named():
    with pytest.raises(ValueError, match="expected a URL such as gs://bucket/run"):
        Remote("nowhere://b/run")


def test_local_files_are_replaced_atomically(tmp_path):
    files = Remote(f"file://{tmp_path}/bucket")
    assert files.names() == set()
    assert files.read("a/b") is None
    for content in ("one", "two"):
        (tmp_path / "here").write_text(content)
        files.upload(tmp_path / "here", "a/b")
        assert files.read("a/b") == content.encode()
    assert files.names() == {"a/b"}
    files.download("a/b", tmp_path / "new" / "there")
    assert (tmp_path / "new" / "there").read_text() == "two"
    files.delete("a/b")
    files.delete("a/b")
    assert files.names() == set()
    with pytest.raises(RemoteError, match="expected a file, but it is gone"):
        files.download("a/b", tmp_path / "there")
