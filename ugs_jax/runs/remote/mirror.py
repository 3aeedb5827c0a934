"""A run at a URL: it works in a local folder, which a thread copies to the URL."""

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
"""Seconds between copies of the log, and between checks whether a checkpoint is written."""


class Mirror:
    """Copy of a run at a URL, as a context manager. Only the first process reads and writes the copy.

    Inside the context, the copy is kept up to date in the background. At the end everything is copied, even if the run
    ends with an error. In that case a copy that fails gives a warning, not a second error.

    Args:
      url: URL of the run.
      folder: Local working folder.

    Raises:
      ValueError: The kind of URL is unknown, or a package for it is not installed.
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
        """Bring the working folder up to date with the run at the URL, if that is newer. For the first process only.

        Args:
          resume: Continue an existing run.

        Raises:
          FileExistsError: The URL has a run and `resume` is not set, or it has remains of a run.
          ValueError: All checkpoints at the URL are damaged, or a file name leads out of the folder.
          RemoteError: The files cannot be read.
        """
        names = self._remote.names()
        remains = sorted(name for name in names if name == "metrics.jsonl" or name.startswith("checkpoints/"))
        if "config.json" not in names and remains:
            raise FileExistsError(
                f"{self._url}: expected no run or a whole one, found {remains[0]} without a config.json; choose "
                "another --folder"
            )
        if "config.json" in names and not resume:
            raise FileExistsError(
                f"{self._url}: expected no run here, found one; continue it with --resume or choose another --folder"
            )
        self._newest, fetched = fetch_newer(self._remote, names, self._folder)
        if fetched:
            print(f"{self._url}: continuing from its step {max(self._newest, 0)}, in {self._folder}", flush=True)
        elif self._newest >= 0:
            print(f"{self._url}: continuing from step {self._newest} of {self._folder}, which is not older", flush=True)

    def claim(self) -> None:
        """Claim the URL for this run. For the first process only, after `fetch`.

        Raises:
          RemoteError: The URL cannot be written.
        """
        self._upload.claim(self._newest)

    def push(self, step: int, *, best: bool) -> None:
        """Copy a checkpoint as soon as it is written. All processes have to call this method.

        Args:
          step: Step of the checkpoint.
          best: True if it is the best one too.

        Raises:
          FencedError: Another run has claimed the URL. Processes other than the first raise a ValueError.
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
        """Copy the remaining files, and end the thread."""
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
            f"The complete run is in {self._folder}. To upload what is missing, give the same command with --resume on "
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
        """Wait until the pushed checkpoint is written, or there is more to do."""
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
        except Exception as error:  # noqa: BLE001 - the run continues after any error
            other = RemoteError(f"{self._url}: expected to copy the run there, but got {type(error).__name__}: {error}")
            self._failed = error if isinstance(error, RemoteError) else other
            if not self._ending:
                _logger.warning(
                    "%s. The run continues in %s; the next try is at its next checkpoint", error, self._folder
                )
        else:
            self._failed = None
