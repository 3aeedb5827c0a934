"""A run at a URL: worked on in a folder of this machine, which a thread keeps copying there."""

import logging
import shlex
import threading
from pathlib import Path
from types import TracebackType

from ugs_jax.runs.preemption import PreemptedError
from ugs_jax.runs.processes import in_first_process, is_first_process
from ugs_jax.runs.remote.run import fetch_newer, whole_here
from ugs_jax.runs.remote.store import Remote, RemoteError
from ugs_jax.runs.remote.upload import FencedError, Upload
from ugs_jax.runs.run_folder import RunFolder

_logger = logging.getLogger(__name__)
_PERIOD, _LOOK = 60.0, 0.05
"""Seconds between copies of the log, and between looks whether a checkpoint is written."""


class Mirror:
    """The copy of a run at a URL. Only the first process reads and writes it.

    A context in which the copy is kept up to date in the background. At its end everything is copied; if the run ends
    with an error too, but then a copy that fails is no second one.

    Args:
      url: of the run.
      folder: the working folder.

    Raises:
      ValueError: a URL of an unknown kind, or a package that is missing.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url.rstrip("/"), folder
        self._remote = Remote(url)
        self._upload = Upload(self._remote, folder)
        self._newest = -1
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._wake = threading.Event()
        self._ending = False
        self._awaited: tuple[int, bool] = (-1, False)
        self._failed: RemoteError | None = None
        self._fenced: FencedError | None = None

    def fetch(self, *, resume: bool) -> None:
        """In the first process: make the working folder what the run at the URL is, if that is the newer one.

        Raises:
          FileExistsError: there is a run and `resume` is not set, or there are remains of one.
          ValueError: all checkpoints there are damaged, or a name there is not one of a file inside.
          RemoteError: the files cannot be read.
        """
        names = self._remote.names()
        left = sorted(name for name in names if name == "metrics.jsonl" or name.startswith("checkpoints/"))
        if "config.json" not in names and left:
            raise FileExistsError(
                f"{self._url}: expected no run or a whole one, found {left[0]} without a config.json; choose another "
                "--folder"
            )
        if "config.json" in names and not resume:
            raise FileExistsError(
                f"{self._url}: expected no run here, found one; continue it with --resume or choose another --folder"
            )
        self._newest, fetched = fetch_newer(self._remote, names, self._folder)
        if fetched:
            print(f"{self._url}: going on from its step {max(self._newest, 0)}, in {self._folder}", flush=True)
        elif self._newest >= 0:
            print(f"{self._url}: going on from step {self._newest} of {self._folder}, which is not older", flush=True)

    def claim(self) -> None:
        """In the first process, after `fetch`: make the URL this run's.

        Raises:
          RemoteError: it cannot be written.
        """
        self._upload.claim(self._newest)

    def push(self, step: int, *, best: bool) -> None:
        """Copy a checkpoint that is being written, once it is; all processes have to call this.

        Raises:
          FencedError: another run has claimed the URL; in the other processes a ValueError.
        """
        in_first_process(lambda: self._push(step, best=best))

    def __enter__(self) -> "Mirror":
        if is_first_process():
            self._wake.set()  # the config
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            in_first_process(self._finish)
        elif isinstance(error, (PreemptedError, FloatingPointError)):  # raised by all processes together
            in_first_process(self._end_with_warning)
        elif isinstance(error, Exception) and is_first_process():
            self._end_with_warning()

    def _push(self, step: int, *, best: bool) -> None:
        if self._fenced is not None:
            raise self._fenced
        self._awaited = (step, best)
        self._wake.set()

    def _finish(self) -> None:
        self._end()
        if self._fenced is not None:
            raise self._fenced
        if self._failed is not None:
            raise RemoteError(f"{self._failed}. {self._by_hand()}") from self._failed

    def _end(self) -> None:
        """Copy what is left, and end the thread."""
        self._ending = True
        self._wake.set()
        self._thread.join()

    def _end_with_warning(self) -> None:
        self._end()
        if self._failed is not None:
            _logger.warning("%s. %s", self._failed, self._by_hand())

    def _by_hand(self) -> str:
        code = "import fsspec, sys; fsspec.core.url_to_fs(sys.argv[2])[0].put(*sys.argv[1:], recursive=True)"
        command = shlex.join(["python", "-c", code, f"{self._folder}/", f"{self._url}/"])
        return (
            f"The run is in {self._folder}, whole. To upload what is missing, give the same command with --resume on "
            f"this machine, or copy it by hand: {command}"
        )

    def _work(self) -> None:
        ending = False
        while not ending and self._fenced is None:
            self._wake.wait(_PERIOD)
            self._wake.clear()
            ending = self._ending
            self._await_checkpoint()
            self._copy()

    def _await_checkpoint(self) -> None:
        """Until what was pushed is written, or there is more to do."""
        step, best = self._awaited
        while not self._wake.is_set() and not self._ending:
            newest = {which: max(steps, default=-1) for which, steps in whole_here(self._folder).items()}
            written = newest["last"] >= max(step, newest["best"]) and (not best or newest["best"] >= step)
            if written and RunFolder(self._folder).begun:
                return
            self._wake.wait(_LOOK)

    def _copy(self) -> None:
        try:
            self._upload.run()
        except FencedError as error:
            self._fenced = error
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            other = RemoteError(f"{self._url}: expected to copy the run there, but got {type(error).__name__}: {error}")
            self._failed = error if isinstance(error, RemoteError) else other
            if not self._ending:
                _logger.warning("%s. The run goes on in %s; next try at its next checkpoint", error, self._folder)
        else:
            self._failed = None
