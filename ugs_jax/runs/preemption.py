"""Requests to stop a run: SIGTERM, which schedulers send before they take a machine away, and Ctrl-C."""

import itertools
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax

from ugs_jax.exit_status import INTERRUPTED, RESUMABLE

_NUMBERS = itertools.count(1)


class PreemptedError(InterruptedError):
    """Error of a run that was asked to stop, saved a checkpoint and stopped. It continues with `resume`.

    Args:
      message: Message that names the step and says how to continue.
      exit_status: Exit status for the process: RESUMABLE, or INTERRUPTED after Ctrl-C, so that a script that restarts
        RESUMABLE runs does not restart it.
    """

    def __init__(self, message: str, exit_status: int = RESUMABLE) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Preemption:
    """Context in which SIGTERM or a first Ctrl-C only sets a flag; see `stops_here`. A second Ctrl-C interrupts.

    With several processes, JAX's coordination service makes all of them stop after the same step. In a thread other
    than the main one, or if JAX handles the signal, only the notice of JAX is used.

    Attributes:
      exit_status: Exit status of a process that stops now.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self.exit_status = RESUMABLE
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is not threading.main_thread():
            return self
        if jax.process_count() == 1:
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # shells ignore SIGINT in background jobs
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._note_interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in tuple(self._before):
            self._restore(number)

    def stops_here(self) -> bool:
        """Return True if the run must stop after this step. Every process must call it after every step."""
        if jax.process_count() == 1:
            return self._requested.is_set()
        from jax.experimental import multihost_utils

        # JAX makes all processes stop at the same number. It must grow with every call, also over several runs.
        return multihost_utils.reached_preemption_sync_point(next(_NUMBERS))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._requested.set()

    def _note_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._restore(number)
        self.exit_status = INTERRUPTED
        # `print` is not safe here: the signal may have interrupted a `print`.
        os.write(2, b"\nugs: stopping after this step, with a checkpoint; press Ctrl-C again to stop without it\n")
        if jax.process_count() == 1:
            self._requested.set()
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # JAX passes this signal on to the other processes

    def _restore(self, number: int) -> None:
        before = self._before.pop(number)
        if before is not None:
            signal.signal(number, before)
