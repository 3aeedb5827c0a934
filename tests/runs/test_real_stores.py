"""Runs at `s3://`, through s3fs and HTTP, on a server that imitates S3."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import fsspec
import pytest

from tests.training.short_runs import push_and_wait, short_runs
from tests.training.toy import bits, toy_experiment
from ugs_jax.runs import load_for_inference
from ugs_jax.runs.remote.mirror import Mirror
from ugs_jax.runs.remote.opened import opened_run
from ugs_jax.runs.remote.run import whole_there
from ugs_jax.runs.remote.store import Remote, RemoteError, working_folder

pytestmark = pytest.mark.slow

AP = {3: 0.1, 6: 0.3, 9: 0.2}
"""By step, so that the best is neither the first nor the last."""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(server, address):
    for _ in range(300):
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(address, timeout=1).close()
        except urllib.error.HTTPError:
            return  # it answers
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def bucket():
    """The URL of an empty bucket."""
    for package in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(package)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    words = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with (
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "key",
        }.items():
            patch.setenv(name, value)
        try:
            wait_for(server, address)
            fsspec.filesystem("s3").mkdir("bucket")
            yield "s3://bucket"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def runs(bucket, tmp_path_factory):
    """The toy at a URL of the bucket, and the same run in a folder."""
    experiment = toy_experiment(epochs=3, log_every=2)
    cache, data = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("data")
    with short_runs(experiment, AP, cache, data) as train:
        folder, url = tmp_path_factory.mktemp("whole") / "run", f"{bucket}/runs/toy"
        train(folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Mirror, "_push", push_and_wait)
            train(url)
        yield SimpleNamespace(train=train, folder=folder, url=url)


def assert_same(runs):
    assert Remote(runs.url).read("metrics.jsonl") == (runs.folder / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        with opened_run(runs.url, which) as opened:
            found = load_for_inference(opened.folder, which=which)[1]
        assert bits(found) == bits(load_for_inference(runs.folder, which=which)[1])


def test_a_run_at_a_url_equals_a_run_in_a_folder(runs):
    assert_same(runs)


def test_a_run_killed_while_it_uploads_a_checkpoint_continues_on_another_machine(runs, capsys):
    shutil.rmtree(working_folder(runs.url))
    there = Remote(runs.url)
    assert max(whole_there(there.names())["last"]) == 9
    there.delete("checkpoints/checksums/last/9.json")
    there.delete("report.md")
    runs.train(runs.url, resume=True)
    assert f"{runs.url}: continuing from its step 6" in capsys.readouterr().out
    assert_same(runs)
    assert "report.md" in there.names()


def test_files_are_uploaded_replaced_read_and_deleted(bucket, tmp_path):
    there = Remote(f"{bucket}/files")
    assert there.names() == set()
    assert there.read("a/b") is None
    there.delete("a/b")
    for content in ("one", "two"):
        (tmp_path / "here").write_text(content)
        there.upload(tmp_path / "here", "a/b")
        assert there.read("a/b") == content.encode()
    (tmp_path / "here").write_bytes(bytes(range(256)) * 400_000)  # 102 MB, which clients send in parts
    there.upload(tmp_path / "here", "large")
    assert there.names() == {"a/b", "large"}
    there.download("large", tmp_path / "new" / "there")
    assert (tmp_path / "new" / "there").read_bytes() == (tmp_path / "here").read_bytes()
    for name in ("a/b", "large"):
        there.delete(name)
    assert there.names() == set()
    with pytest.raises(RemoteError, match="expected a file, but it is gone"):
        there.download("a/b", tmp_path / "there")


def test_a_missing_bucket_is_named(bucket, tmp_path):
    there = Remote(f"{bucket}-of-nobody/run")
    assert there.names() == set()
    (tmp_path / "here").touch()
    with pytest.raises(RemoteError, match=r"bucket-of-nobody/run/file: .*is there such a bucket\?"):
        there.upload(tmp_path / "here", "file")
