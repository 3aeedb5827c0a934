"""Detection of lost processes of a job. The remaining processes then end, so that the job can be started again."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from ugs_jax.exit_status import RESUMABLE
from ugs_jax.runs.preemption import PreemptedError

_BEAT = 2.0
_SILENT_FOR = 80.0  # seconds; JAX itself gives up after 100
_SUSPECT_FOR, _WAIT = 3.5 * _BEAT, 6 * _BEAT  # seconds, after an error that a lost connection may have caused
_PREFIX, _DONE = "ugs/alive/", "done"
_LOST = ("gloo", "connection", "socket closed", "unavailable", "heartbeat", "nccl", "peer", "coordination", "deadline")


class Companions:
    """Context in which the loss of another process ends this one, with a message and the exit status RESUMABLE.

    Every process increments a counter in the store of JAX's coordination service, and checks the counters of the
    others. Without this context, processes would wait for each other until JAX aborts them.

    Args:
      say: Function that writes a line to standard error.
      leave: Function that ends the process with an exit status. It must not run any code that waits for the others.
    """

    def __init__(self, say: Callable[[str], None] | None = None, leave: Callable[[int], Any] = os._exit) -> None:
        self._say = say or _write
        self._leave = leave
        self._client: Any = _client() if jax.process_count() > 1 else None
        self._own, self._others = (
            jax.process_index(),
            [k for k in range(jax.process_count()) if k != jax.process_index()],
        )
        self._seen: dict[int, tuple[str, float]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="companions")

    def __enter__(self) -> "Companions":
        if self._client is not None:
            now = time.monotonic()
            self._seen = dict.fromkeys(self._others, ("", now))
            self._trap_abort()
            self._thread.start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self._client is None:
            return
        try:
            if error is not None and not isinstance(error, KeyboardInterrupt) and _may_be_lost(error):
                self._look_closer()
        finally:
            self._stopped.set()
        if error is None or isinstance(error, PreemptedError):
            self._thread.join(2 * _BEAT)
            self._tell(_DONE)

    def silent(self, seconds: float) -> int | None:
        """Return the first unfinished process whose counter has not changed for `seconds`; None if there is none."""
        now = time.monotonic()
        late = (k for k, (word, since) in self._seen.items() if word != _DONE and now - since > seconds)
        return next(late, None)

    def _watch(self) -> None:
        count = 0
        while not self._stopped.wait(_BEAT):
            count += 1
            if not (self._tell(str(count)) and self._listen()):
                return  # process 0, which holds the store, is lost or done; JAX reports this too
            gone = self.silent(_SILENT_FOR)
            if gone is not None:
                self._end(gone)

    def _tell(self, word: str) -> bool:
        try:
            self._client.key_value_set(f"{_PREFIX}{self._own}", word, allow_overwrite=True)
        except (RuntimeError, ValueError):
            return False
        return True

    def _listen(self) -> bool:
        try:
            words = dict(self._client.key_value_dir_get(_PREFIX))
        except (RuntimeError, ValueError):
            return False
        now = time.monotonic()
        for other, (word, _) in list(self._seen.items()):
            current = words.get(f"{_PREFIX}{other}", "")
            if current != word:
                self._seen[other] = (current, now)
        return True

    def _look_closer(self) -> None:
        """Wait until it is clear whether a process is lost, and end this one if so."""
        deadline = time.monotonic() + _WAIT
        while time.monotonic() < deadline:
            if not self._listen():
                self._end(0)
            gone = self.silent(_SUSPECT_FOR)
            if gone is not None:
                self._end(gone)
            time.sleep(_BEAT / 4)

    def _end(self, gone: int) -> None:
        self._say(_sentence(gone))
        self._leave(RESUMABLE)

    def _trap_abort(self) -> None:
        """Handle SIGABRT in C. JAX aborts in its own thread when process 0 is lost, unseen by Python's handlers."""

        def on_abort(number: int) -> None:
            del number
            gone = self.silent(_SUSPECT_FOR)
            if self._stopped.is_set() or (gone is None and self._own == 0):
                return  # another reason to abort; after a handler that returns, `abort` ends the process
            self._end(0 if gone is None else gone)

        try:
            handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(on_abort)
            libc = ctypes.CDLL(None)
            libc.signal.restype = ctypes.c_void_p
            libc.signal(int(signal.SIGABRT), handler)
            _KEPT.append(handler)
        except (OSError, AttributeError):
            return


_KEPT: list[Any] = []
"""Handlers that C code refers to. They must live as long as the process."""


def _sentence(gone: int) -> str:
    return f"ugs: process {gone} is lost; start all processes again with the same command"


def _write(line: str) -> None:
    os.write(2, f"{line}\n".encode())


def _client() -> Any:
    """Return the client of JAX's coordination service, or None.

    It has no public name, so a new version of JAX may move it.
    """
    try:
        from jax._src import distributed

        client = distributed.global_state.client
        return client if hasattr(client, "key_value_dir_get") else None
    except (ImportError, AttributeError):
        return None


def _may_be_lost(error: BaseException) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in _LOST)
