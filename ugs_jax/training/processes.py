"""Several processes as one program: who writes, and agreeing on what the first of them sees."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def join_processes(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Make this process one of a job, before anything is computed; see `jax.distributed.initialize`.

    Without arguments the cluster is asked: Cloud TPU, GKE, Slurm, Open MPI.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process: number of this one, from 0.

    Raises:
      ValueError: some of the three are given and others not.
      RuntimeError: no such cluster, or the other processes cannot be reached.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(
            f"expected coordinator, processes and process together, or none of them; got no {' and no '.join(missing)}"
        )
    jax.distributed.initialize(coordinator, processes, process)


def is_first_process() -> bool:
    """Whether this process writes for all."""
    return jax.process_index() == 0


def in_first_process(act: Callable[[], Any]) -> Any:
    """What `act` returns in the first process, a JSON value, in every process; all have to call this, and wait for it.

    Raises:
      ValueError: `act` raised something in the first process, which itself raises that.
    """
    if jax.process_count() == 1:
        return act()
    from jax.experimental import multihost_utils

    error: Exception | None = None
    answer = ""
    if is_first_process():
        try:
            answer = json.dumps(act())
        except Exception as raised:  # noqa: BLE001 - the others wait for an answer, whatever happened
            error, answer = raised, json.dumps(str(raised))
    text = np.frombuffer(answer.encode(), np.uint8)
    size, failed = multihost_utils.broadcast_one_to_all(np.array([text.size, error is not None], np.int32))
    padded = np.zeros(int(size), np.int32)
    padded[: text.size] = text
    told = json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8)))
    if error is not None:
        raise error
    if failed:
        raise ValueError(f"process 0: {told}")
    return told
