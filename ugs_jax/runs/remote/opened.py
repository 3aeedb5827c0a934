"""Looking at a run, or writing beside it, wherever it is: what is at a URL is copied here, and new files back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ugs_jax.runs.remote.run import all_damaged, download_logs, download_newest, whole_there
from ugs_jax.runs.remote.store import Remote, is_url


class Opened:
    """A folder of this machine that stands for what the user named.

    Attributes:
      folder: has the files.
      name: folder or URL.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name.rstrip("/")

    def shown(self, file: Path) -> str:
        """What the user calls a file of the folder."""
        inside = file.is_relative_to(self.folder)
        return f"{self.name}/{file.relative_to(self.folder).as_posix()}" if inside else str(file)


@contextmanager
def opened_run(run: str, which: str | None = None) -> Iterator[Opened]:
    """A run folder, or a copy of the run at a URL; what is written into the copy is uploaded at the end.

    Args:
      run: folder or URL.
      which: checkpoint that is needed, `best` or `last`; None for none.

    Raises:
      FileNotFoundError: no run at the URL.
      ValueError: all checkpoints there are damaged, or a URL of an unknown kind.
      RemoteError: the files cannot be read or written.
    """
    if not is_url(run):
        yield Opened(Path(run), run)
        return
    remote = Remote(run)
    names = remote.names()
    if "config.json" not in names:
        raise FileNotFoundError(f"{run}: expected a run folder with a config.json, found none; give the URL of a run")
    with TemporaryDirectory(prefix="ugs-run-") as place:
        download_logs(remote, names, Path(place))
        steps = whole_there(names)[which] if which else set()
        if which and steps and download_newest(remote, names, which, steps, Path(place)) is None:
            raise all_damaged(remote, which)
        before = set(Path(place).rglob("*"))
        yield Opened(Path(place), run)
        _upload_new(remote, Path(place), before)


@contextmanager
def opened_folder(place: str) -> Iterator[Path]:
    """A folder to write into, made where there is none; for a URL, what was written is uploaded at the end.

    Raises:
      ValueError: a URL of an unknown kind.
      RemoteError: the files cannot be written.
    """
    if not is_url(place):
        Path(place).mkdir(parents=True, exist_ok=True)
        yield Path(place)
        return
    remote = Remote(place)
    with TemporaryDirectory(prefix="ugs-folder-") as folder:
        yield Path(folder)
        _upload_new(remote, Path(folder), set())


def _upload_new(remote: Remote, folder: Path, before: set[Path]) -> None:
    for file in sorted(set(folder.rglob("*")) - before):
        if file.is_file() and not file.name.startswith("."):
            remote.upload(file, file.relative_to(folder).as_posix())
