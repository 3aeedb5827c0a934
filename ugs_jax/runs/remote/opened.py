"""Local access to a run or folder at a URL: its files are downloaded, and new files are uploaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ugs_jax.runs.remote.run import all_damaged, download_logs, download_newest, whole_there
from ugs_jax.runs.remote.store import Remote, is_url


class Opened:
    """Local folder with the files of a run folder or URL.

    Attributes:
      folder: Local folder with the files.
      name: Folder or URL that the user gave.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name.rstrip("/")

    def shown(self, file: Path) -> str:
        """Return the path of a file below the folder or URL that the user gave."""
        inside = file.is_relative_to(self.folder)
        return f"{self.name}/{file.relative_to(self.folder).as_posix()}" if inside else str(file)


@contextmanager
def opened_run(run: str, *which: str | None, files: Sequence[str] = ()) -> Iterator[Opened]:
    """Open a run folder, or a local copy of the run at a URL. New and changed files are uploaded at the end.

    Args:
      run: Folder or URL of the run.
      *which: Kinds of checkpoint, `best` or `last`. The first that exists is needed; by default none is.
      files: Further files that are needed, if they exist.

    Raises:
      FileNotFoundError: The URL has no run.
      ValueError: All checkpoints at the URL are damaged, or the kind of URL is unknown.
      RemoteError: The files cannot be read or written.
    """
    if not is_url(run):
        yield Opened(Path(run), run)
        return
    remote = Remote(run)
    names = remote.names()
    if "config.json" not in names:
        raise FileNotFoundError(f"{run}: expected a run folder with a config.json, found none; give the URL of a run")
    with TemporaryDirectory(prefix="ugs-run-") as folder:
        download_logs(remote, names, Path(folder))
        there = whole_there(names)
        for kind in [kind for kind in which if kind and there[kind]][:1]:
            if download_newest(remote, names, kind, there[kind], Path(folder)) is None:
                raise all_damaged(remote, kind)
        for name in names.intersection(files):
            remote.download(name, Path(folder) / name)
        before = _stamps(Path(folder))
        yield Opened(Path(folder), run)
        _upload_new(remote, Path(folder), before)


@contextmanager
def opened_folder(place: str) -> Iterator[Path]:
    """Open a folder for writing. It is created if it is missing; for a URL, its files are uploaded at the end.

    Args:
      place: Folder or URL.

    Raises:
      ValueError: The kind of URL is unknown.
      RemoteError: The files cannot be written.
    """
    if not is_url(place):
        Path(place).mkdir(parents=True, exist_ok=True)
        yield Path(place)
        return
    remote = Remote(place)
    with TemporaryDirectory(prefix="ugs-folder-") as folder:
        yield Path(folder)
        _upload_new(remote, Path(folder), {})


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    files = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {path: (status.st_ino, status.st_mtime_ns) for path, status in files.items()}


def _upload_new(remote: Remote, folder: Path, before: dict[Path, tuple[int, int]]) -> None:
    for file, stamp in sorted(_stamps(folder).items()):
        if before.get(file) != stamp and not file.name.startswith("."):
            remote.upload(file, file.relative_to(folder).as_posix())
