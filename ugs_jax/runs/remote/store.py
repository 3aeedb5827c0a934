"""Files at a URL that fsspec supports: read, written and deleted as whole objects, with several tries."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from data_pipeline.cache import default_cache_dir

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_EXTRAS = {"gs": "gcs", "gcs": "gcs", "s3": "s3", "s3a": "s3"}
_PACKAGES = {"hf": "huggingface_hub", "http": "aiohttp requests", "https": "aiohttp requests"}
PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds between tries of a call that failed."""


class RemoteError(OSError):
    """A file store cannot be reached, or refuses access. The message names the file and the last error."""


def is_url(folder: Path | str) -> bool:
    """Return True for a URL, and False for a local folder."""
    return isinstance(folder, str) and "://" in folder


def working_folder(url: str) -> Path:
    """Return the local working folder of a run at a URL. It lies in the cache folder and depends on the URL only."""
    url = url.rstrip("/")
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in url.rpartition("/")[2])
    return default_cache_dir() / "runs" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


class Remote:
    """Folder at a URL. Calls that fail are repeated a few times before they raise a RemoteError.

    Args:
      url: URL such as `gs://bucket/run`.

    Raises:
      ValueError: The protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = url.partition("://")[0]
        try:
            self._files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            extra, package = _EXTRAS.get(protocol), _PACKAGES.get(protocol)
            how = f"pip install {package}" if package else str(error)
            how = f'in a checkout of this project, pip install ".[{extra}]"' if extra else how
            raise ValueError(f"{url}: expected a package for {protocol}://, found none; {how}") from error
        except ValueError as error:
            raise ValueError(f"{url}: expected a URL such as gs://bucket/run or s3://bucket/run; {error}") from error
        self._root = root.rstrip("/")

    def names(self) -> set[str]:
        """Return the names of all files, with `/` between folders.

        Raises:
          RemoteError: The store cannot be reached.
          ValueError: A name would lead out of the folder that it is downloaded to.
        """
        self._files.invalidate_cache()
        try:
            paths = self._patiently("list files", "", lambda: self._files.find(self._root))
        except FileNotFoundError:
            return set()
        inside = [path for path in paths if path.startswith(f"{self._root}/") and not path.endswith("/")]
        names = [path.removeprefix(f"{self._root}/") for path in inside]
        for name in names:
            if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
                raise ValueError(
                    f"{self.url}: expected files inside this folder, found one named {name!r}; find out who put it "
                    "there, and delete it"
                )
        return set(names)

    def read(self, name: str) -> bytes | None:
        """Return the contents of a file; None if it is missing.

        Raises:
          RemoteError: The store cannot be reached.
        """
        try:
            content: bytes = self._patiently("read", name, lambda: self._files.cat_file(self._path(name)))
        except FileNotFoundError:
            return None
        return content

    def details(self, name: str) -> dict[str, Any] | None:
        """Return what the store tells about a file, such as its size; None if the file is missing.

        Raises:
          RemoteError: The store cannot be reached.
        """
        try:
            found: dict[str, Any] = self._patiently("find", name, lambda: self._files.info(self._path(name)))
        except FileNotFoundError:
            return None
        return found

    def download(self, name: str, file: Path) -> None:
        """Download a file.

        Args:
          name: Name at the URL.
          file: Local path.

        Raises:
          RemoteError: The file cannot be read.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._patiently("read", name, lambda: self._files.get_file(self._path(name), str(file)))
        except FileNotFoundError as error:
            raise RemoteError(f"{self.url}/{name}: expected a file, but it is gone; try again") from error

    def upload(self, file: Path, name: str) -> None:
        """Upload a file. An existing file of the same name is replaced.

        Args:
          file: Local path.
          name: Name at the URL.

        Raises:
          RemoteError: The file cannot be written.
          FileNotFoundError: The local file does not exist.
        """
        try:
            self._patiently("write", name, lambda: self._put(str(file), self._path(name)))
        except FileNotFoundError as error:
            if not file.exists():
                raise
            raise RemoteError(f"{self.url}/{name}: expected to write, but: {error}; is there such a bucket?") from error

    def delete(self, name: str) -> None:
        """Delete a file. A missing file is not an error.

        Raises:
          RemoteError: The file cannot be deleted.
        """
        try:
            self._patiently("delete", name, lambda: self._files.rm_file(self._path(name)))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _put(self, file: str, path: str) -> None:
        if not isinstance(self._files, LocalFileSystem):
            self._files.put_file(file, path)  # an object store never shows incomplete files
            return
        parent, _, name = path.rpartition("/")
        unfinished = f"{parent}/.{name}.unfinished"
        self._files.makedirs(parent, exist_ok=True)
        self._files.put_file(file, unfinished)
        self._files.mv(unfinished, path)

    def _patiently(self, what: str, name: str, act: Callable[[], _T]) -> _T:
        """Call `act`, and repeat it after errors. `what` and `name` describe the call in the message of an error."""
        error: Exception | None = None
        for pause in (*PAUSES, None):
            try:
                return act()
            except FileNotFoundError:
                raise
            except Exception as raised:  # noqa: BLE001 - every store has its own errors
                error = raised
            if isinstance(error, PermissionError) or pause is None:
                break
            _logger.debug("%s/%s: %r; again in %g s", self.url, name, error, pause)
            time.sleep(pause)
        raise RemoteError(
            f"{self.url}/{name}: expected to {what}, but got {type(error).__name__}: {error}. Check the network and "
            "your permissions"
        ) from error
