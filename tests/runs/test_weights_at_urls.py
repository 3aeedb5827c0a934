"""Files of weights at URLs are downloaded once, and again when they change; `hf://` works with its package."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.training.store import Store
from ugs_jax.runs import RemoteError
from ugs_jax.runs.remote import store as remote_store
from ugs_jax.runs.remote.store import Remote
from ugs_jax.runs.remote.weights_file import local_file

URL = "store://bucket/models/best.pt"


@pytest.fixture(autouse=True)
def empty(monkeypatch, tmp_path):
    monkeypatch.setattr(remote_store, "PAUSES", (0.0, 0.0))
    monkeypatch.setenv("UGS_CACHE", str(tmp_path / "cache"))
    Store.begin()


def put(content):
    """The in-memory store tells versions apart by their time."""
    Store.change("/bucket/models/best.pt", content)


@pytest.fixture
def there():
    put(b"first")


def test_a_file_is_downloaded_once_and_again_when_it_has_changed(there, capsys):
    file = local_file(URL)
    assert file.name == "best.pt"
    assert file.read_bytes() == b"first"
    assert local_file(URL) == file
    assert len(Store.calls) == 1
    put(b"second")
    assert local_file(URL).read_bytes() == b"second"
    assert capsys.readouterr().err.count(f"{URL}: downloading once, to ") == 2
    assert not list(file.parent.glob(".*"))


def test_without_a_network_the_newest_copy_is_used(there, monkeypatch, caplog):
    file = local_file(URL)

    def fail(*_):
        raise TimeoutError("the network is down")

    monkeypatch.setattr(Store, "info", fail)
    assert local_file(URL) == file
    assert f"{URL}: expected to find, but got TimeoutError" in caplog.text
    assert f"The copy from before is used: {file}" in caplog.text
    with pytest.raises(RemoteError, match=r"other\.pt: expected to find, but got TimeoutError"):
        local_file("store://bucket/models/other.pt")


def test_a_missing_file_and_an_interrupted_download_leave_nothing(there, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"store://bucket/models/none\.pt: expected a \.pt .* check the URL"):
        local_file("store://bucket/models/none.pt")
    Store.fails = lambda _: True
    with pytest.raises(RemoteError, match=r"best\.pt: expected to read"):
        local_file(URL)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("url", "package"), [("hf://owner/repo", "huggingface_hub"), ("https://host/a", "aiohttp")])
def test_a_missing_package_is_named(url, package, monkeypatch):
    def missing(*_, **__):
        raise ImportError(f"Install {package}")

    monkeypatch.setattr(remote_store.fsspec.core, "url_to_fs", missing)
    with pytest.raises(ValueError, match=rf"{url}: expected a package for \w+://, found none; pip install {package}"):
        Remote(url)


class Hub(BaseHTTPRequestHandler):
    """A server with the part of huggingface.co that a download needs: `owner/repo` with one file."""

    def do_GET(self):
        entry = {"type": "file", "path": "w.pt", "size": 7, "oid": "0" * 40}
        if "/resolve/" in self.path:
            self.answer(b"weights")
        elif "/tree/" in self.path:
            self.answer(json.dumps([entry]).encode())
        elif self.path.startswith("/api/models/owner/repo"):
            self.answer(json.dumps({"id": "owner/repo", "sha": "1" * 40, "siblings": []}).encode())
        else:
            self.answer(b"", 404)

    do_HEAD = do_GET  # noqa: N815

    def answer(self, body, status=200):
        self.send_response(status)
        for name, value in (("Content-Length", len(body)), ("ETag", '"2"'), ("Content-Type", "application/json")):
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_query_of_a_link_is_kept(hub):
    pytest.importorskip("aiohttp", reason="fsspec reads http:// with aiohttp")
    file = local_file(f"{hub}/owner/repo/resolve/main/w.pt?download=true")
    assert (file.name, file.read_bytes()) == ("w.pt", b"weights")


@pytest.mark.slow
def test_a_file_of_hugging_face_is_downloaded(hub, tmp_path):
    pytest.importorskip("huggingface_hub")
    code = "import sys; from ugs_jax.runs.remote.weights_file import local_file; print(local_file(sys.argv[1]))"
    settings = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path)}
    words = [sys.executable, "-c", code, "hf://owner/repo/w.pt"]
    shown = subprocess.run(words, env=settings, capture_output=True, text=True, check=True)
    assert Path(shown.stdout.strip()).read_bytes() == b"weights"
