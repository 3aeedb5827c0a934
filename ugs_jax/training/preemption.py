"""Being asked to stop: SIGTERM, which schedulers send before they take a machine away."""

import itertools
import signal
import threading
from types import FrameType, TracebackType

import jax

RESUMABLE = 75
"""Exit status of a run that was asked to stop: EX_TEMPFAIL of sysexits.h, try again later."""

_NUMBERS = itertools.count(1)


class PreemptedError(InterruptedError):
    """The run was asked to stop and did, with a checkpoint; it goes on with `resume`."""

    exit_status = RESUMABLE


class Preemption:
    """Context in which a SIGTERM is noted and does nothing else.

    With several processes, JAX's coordination service makes all of them stop after the same step. In a thread other
    than the main one, or where JAX has taken the signal over, its own notice is all there is.
    """

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._before: object = None

    def __enter__(self) -> "Preemption":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)  # type: ignore[arg-type]
            self._before = None

    def stops_here(self) -> bool:
        """Whether to stop after this step; every process has to ask after every step."""
        if jax.process_count() == 1:
            return self._asked.is_set()
        from jax.experimental import multihost_utils

        # JAX makes all processes stop at one number, which has to grow from call to call, over several runs too.
        return multihost_utils.reached_preemption_sync_point(next(_NUMBERS))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
