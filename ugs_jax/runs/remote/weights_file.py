"""Files of weights on this machine and at URLs: recognising them, and downloading them once."""

import hashlib
import json
import logging
import secrets
import sys
from pathlib import Path, PurePosixPath

from data_pipeline.cache import default_cache_dir
from ugs_jax.runs.remote.store import Remote, RemoteError, is_url

_logger = logging.getLogger(__name__)
SUFFIXES = (".pt", ".pth", ".safetensors")
"""Endings of files of weights. A local file of any other name counts as one, too."""
_VERSION = ("etag", "ETag", "blob_id", "md5Hash", "Content-MD5", "LastModified", "mtime", "created", "size")
"""Entries by which file systems tell versions of a file apart."""


def is_weights_file(source: str | Path) -> bool:
    """Return True if a source is a file of weights or its URL, and False if it is a run folder or its URL."""
    if is_url(source):
        return _parts(str(source))[2].suffix.lower() in SUFFIXES
    path = Path(source)
    return not path.is_dir() and (path.suffix.lower() in SUFFIXES or path.is_file())


def local_file(source: str | Path) -> Path:
    """Return the path of a file of weights. A file at a URL is downloaded to the cache folder.

    It is downloaded again only if it has changed at the URL. If the URL cannot be reached, the newest copy is used.

    Args:
      source: Path or URL of the file.

    Raises:
      FileNotFoundError: The URL has no such file.
      ValueError: The kind of URL is unknown, or a package for it is not installed.
      RemoteError: The file cannot be read.
    """
    if not is_url(source):
        return Path(source)
    url = str(source)
    place, name, path = _parts(url)
    remote = Remote(place)
    copies = default_cache_dir() / "weights" / _hashed(url)
    try:
        details = remote.details(name)
    except RemoteError as error:
        copy = max(copies.glob(f"*/{path.name}"), key=lambda file: file.stat().st_mtime, default=None)
        if copy is None:
            raise
        _logger.warning("%s The copy from before is used: %s", error, copy)
        return copy
    if details is None:
        raise FileNotFoundError(f"{url}: expected a .pt or .safetensors file, found none; check the URL")
    version = {key: str(details[key]) for key in _VERSION if details.get(key) is not None}
    file = copies / _hashed(json.dumps(version, sort_keys=True)) / path.name
    if not file.exists():
        print(f"{url}: downloading once, to {file}", file=sys.stderr, flush=True)
        unfinished = file.with_name(f".{secrets.token_hex(8)}.unfinished")
        try:
            remote.download(name, unfinished)
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    return file


def _parts(url: str) -> tuple[str, str, PurePosixPath]:
    """Return the folder of a file, its name with the query of the URL, and its path."""
    base, mark, query = url.partition("?")
    folder, _, name = base.rpartition("/")
    return folder, f"{name}{mark}{query}", PurePosixPath(name)


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
