"""Being asked to stop: SIGTERM, which schedulers send before they take a machine away, and Ctrl-C."""

import itertools
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import jax

RESUMABLE = 75
"""Exit status of a run that was asked to stop: EX_TEMPFAIL of sysexits.h, try again later."""

_NUMBERS = itertools.count(1)


INTERRUPTED = 128 + signal.SIGINT
"""Exit status of what a Ctrl-C has ended, as a shell says it."""


class PreemptedError(InterruptedError):
    """The run was asked to stop and did, with a checkpoint; it goes on with `resume`.

    Args:
      message: says where, and how to go on.
      exit_status: RESUMABLE, or INTERRUPTED after a Ctrl-C, so that no loop that waits for RESUMABLE begins again.
    """

    def __init__(self, message: str, exit_status: int = RESUMABLE) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Preemption:
    """Context in which a SIGTERM or a first Ctrl-C is noted and does nothing else; a second Ctrl-C interrupts.

    With several processes, JAX's coordination service makes all of them stop after the same step. In a thread other
    than the main one, or where JAX has taken the signal over, its own notice is all there is.

    Attributes:
      exit_status: of a process that stops now.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.exit_status = RESUMABLE
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Preemption":
        if threading.current_thread() is not threading.main_thread():
            return self
        if jax.process_count() == 1:
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in what a shell runs in the background
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._note_interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in tuple(self._before):
            self._restore(number)

    def stops_here(self) -> bool:
        """Whether to stop after this step; every process has to ask after every step."""
        if jax.process_count() == 1:
            return self._asked.is_set()
        from jax.experimental import multihost_utils

        # JAX makes all processes stop at one number, which has to grow from call to call, over several runs too.
        return multihost_utils.reached_preemption_sync_point(next(_NUMBERS))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()

    def _note_interrupt(self, number: int, frame: FrameType | None) -> None:
        self._restore(number)
        self.exit_status = INTERRUPTED
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nugs: stops after this step and saves; Ctrl-C again stops without\n")
        if jax.process_count() == 1:
            self._asked.set()
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # which JAX tells the other processes

    def _restore(self, number: int) -> None:
        before = self._before.pop(number)
        if before is not None:
            signal.signal(number, before)
