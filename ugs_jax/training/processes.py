"""Several processes as one program: who writes, and agreeing on what the first of them sees."""

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

_PART, _LEAST = 1 << 26, 1 << 8
"""Bytes that are sent at once, at most and at least."""


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
    error: Exception | None = None
    answer = b""
    if is_first_process():
        try:
            answer = json.dumps({"answer": act()}).encode()
        except Exception as raised:  # noqa: BLE001 - the others wait for an answer, whatever happened
            error, answer = raised, json.dumps({"error": str(raised)}).encode()
    told = json.loads(from_first_process(answer))
    if error is not None:
        raise error
    if "error" in told:
        raise ValueError(f"process 0: {told['error']}")
    return told["answer"]


def from_first_process(data: bytes) -> bytes:
    """What the first process gives, in every process; all have to call this. What the others give is not looked at."""
    if jax.process_count() == 1:
        return data
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data) // _PART)))
    rest = int(multihost_utils.broadcast_one_to_all(np.int32(len(data) % _PART)))
    parts = []
    for start in range(0, size * _PART + rest, _PART):
        length = min(_PART, size * _PART + rest - start)
        padded = np.zeros(max(_LEAST, 1 << (length - 1).bit_length()), np.uint8)  # few shapes, so few programs
        if is_first_process():
            padded[:length] = np.frombuffer(data, np.uint8, length, start)
        told = multihost_utils.broadcast_one_to_all(padded.view(np.uint32))  # as integers: a sum would make -0.0 to 0.0
        parts.append(np.asarray(told).view(np.uint8)[:length].tobytes())
    return b"".join(parts)
