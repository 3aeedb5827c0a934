"""Several processes as one program: functions to join them, and to share results of the first process with all."""

import json
import socket
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ugs_jax.runs.local_devices import local_devices

_PART, _LEAST = 1 << 26, 1 << 8
"""Largest and smallest size of a message, bytes."""


def join_processes(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, *, timeout: float = 300
) -> None:
    """Join the processes of a job. Call this before any computation; see `jax.distributed.initialize`.

    Without arguments, the settings come from the cluster: Cloud TPU, GKE, Slurm or Open MPI. `local_devices` chooses
    the GPUs of the host.

    Args:
      coordinator: Address of process 0, HOST:PORT.
      processes: Number of processes.
      process: Index of this process, from 0.
      timeout: Time to wait for the other processes, seconds.

    Raises:
      ValueError: Some of the first three arguments are given and others are not, no cluster is found, or a number or
        address is invalid.
      ConnectionError: The other processes cannot be reached.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise ValueError(
            f"expected --coordinator, --processes and --process together, or none of them; got no "
            f"{' and no '.join(f'--{name}' for name in missing)}; give all three, or --distributed alone in a cluster"
        )
    if coordinator is not None and processes is not None and process is not None:
        _reach(coordinator, processes, process, timeout)
    try:
        jax.distributed.initialize(
            coordinator, processes, process, local_device_ids=local_devices(), initialization_timeout=int(timeout)
        )
    except ValueError as error:
        raise ValueError(
            "--distributed: expected a cluster that gives the number of processes and the address of the first one "
            f"(Cloud TPU, GKE, Slurm's srun, Open MPI's mpirun), got none: {error} On one host leave out "
            "--distributed; on several hosts without a cluster give --coordinator HOST:PORT, --processes and --process"
        ) from error
    except RuntimeError as error:
        raise ConnectionError(
            f"expected to join the other processes, got: {error} Start all processes again with the same command"
        ) from error


def _reach(coordinator: str, processes: int, process: int, timeout: float) -> None:
    """Check that process 0 can be reached. Otherwise JAX would end this process with a message for developers."""
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(
            f"--coordinator: expected HOST:PORT of process 0, got {coordinator!r}; add a free port of that host, as in "
            f"{host or coordinator}:1234"
        )
    if not 0 <= process < processes:
        raise ValueError(
            f"--process: expected a number from 0 to {processes - 1}, got {process}; --processes is the number of "
            "all processes, and the first process is 0"
        )
    try:
        if process == 0:
            socket.create_server(("", int(port))).close()
        else:
            _wait_for(host.strip("[]"), int(port), timeout)
    except OSError as error:
        raise ConnectionError(
            f"--coordinator {coordinator}: expected {'a free port here' if process == 0 else 'to reach process 0'}, "
            f"got: {error}. Give the name or address of the first host and a free port that no firewall blocks, and "
            f"start all processes within {timeout:g} s"
        ) from error


def _wait_for(host: str, port: int, timeout: float) -> None:
    deadline, printed = time.monotonic() + timeout, False
    while True:
        try:
            socket.create_connection((host, port), timeout=min(10, timeout)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            if not printed:
                print(f"waiting for process 0 at {host}:{port}, at most {timeout:g} s", flush=True)
                printed = True
            time.sleep(min(1, timeout))
        else:
            return


def is_first_process() -> bool:
    """Return True in the first process, which writes the files of a run."""
    return jax.process_index() == 0


def in_first_process(act: Callable[[], Any]) -> Any:
    """Call a function in the first process, and return its result in every process. All processes must call it.

    Args:
      act: Function without arguments that returns a JSON value.

    Raises:
      ValueError: `act` raised an error in the first process. The first process itself raises that error.
    """
    if jax.process_count() == 1:
        return act()
    error: Exception | None = None
    answer = b""
    if is_first_process():
        try:
            answer = json.dumps({"answer": act()}).encode()
        except Exception as raised:  # noqa: BLE001 - the other processes wait for an answer after any error
            error, answer = raised, json.dumps({"error": str(raised)}).encode()
    received = json.loads(from_first_process(answer))
    if error is not None:
        raise error
    if "error" in received:
        raise ValueError(f"process 0: {received['error']}")
    return received["answer"]


def from_first_process(data: bytes) -> bytes:
    """Return the data of the first process in every process. All processes must call it.

    Args:
      data: Data in the first process. The argument is ignored in the others.
    """
    if jax.process_count() == 1:
        return data
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data) // _PART)))
    rest = int(multihost_utils.broadcast_one_to_all(np.int32(len(data) % _PART)))
    parts = []
    for start in range(0, size * _PART + rest, _PART):
        length = min(_PART, size * _PART + rest - start)
        # Padded to a power of two, so that few programs are compiled.
        padded = np.zeros(max(_LEAST, 1 << (length - 1).bit_length()), np.uint8)
        if is_first_process():
            padded[:length] = np.frombuffer(data, np.uint8, length, start)
        # As integers, because the broadcast is a sum, which would turn -0.0 into 0.0.
        received = multihost_utils.broadcast_one_to_all(padded.view(np.uint32))
        parts.append(np.asarray(received).view(np.uint8)[:length].tobytes())
    return b"".join(parts)
