"""GPUs that a process of a cluster job uses: all GPUs of its host, or a share if the host runs several processes."""

import os
import re
from collections.abc import Mapping

_VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def local_devices(environment: Mapping[str, str] = os.environ) -> list[int] | None:
    """Return the device numbers for `jax.distributed.initialize`.

    An empty list stands for all visible devices, None for JAX's own choice.

    JAX gives a task of Slurm or Open MPI one GPU, the one with the task's number on its host. This is right if there is
    one task for each GPU, but a task that has the host to itself would use one GPU of eight. Here, a task that is alone
    on its host takes all GPUs. Tasks that see different GPUs take the GPUs they see. Tasks that see the same GPUs share
    them evenly.

    Args:
      environment: Environment variables of the process.
    """
    if environment.get("JAX_LOCAL_DEVICE_IDS"):
        return None  # JAX reads this variable
    tasks, task = _tasks_on_host(environment)
    if tasks is None or task is None:
        return None
    if tasks == 1:
        return []
    visible = _visible(environment)
    if visible is None:
        return None
    own = _number(environment.get("SLURM_GPUS_PER_TASK"))
    if visible < tasks or visible == own:  # Slurm has bound the GPUs to the tasks
        return []
    share = visible // tasks
    return list(range(task * share, (task + 1) * share))


def _tasks_on_host(environment: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return the number of tasks of the job on this host and the index of this one; None outside of a cluster."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in environment:
        return _number(environment["OMPI_COMM_WORLD_LOCAL_SIZE"]), _number(
            environment.get("OMPI_COMM_WORLD_LOCAL_RANK")
        )
    task = _number(environment.get("SLURM_LOCALID"))
    counts = _expand(environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node = _number(environment.get("SLURM_NODEID")) or 0
    if node < len(counts):
        return counts[node], task
    return _number(environment.get("SLURM_NTASKS_PER_NODE")), task


def _expand(counts: str) -> list[int]:
    """Expand Slurm's notation: `2(x3),1` becomes [2, 2, 2, 1]."""
    groups = re.findall(r"(\d+)(?:\(x(\d+)\))?", counts)
    return [int(count) for count, times in groups for _ in range(int(times or 1))]


def _visible(environment: Mapping[str, str]) -> int | None:
    """Return the number of GPUs that the process sees; None if no variable limits them."""
    given = next((environment[name] for name in _VISIBLE if environment.get(name)), None)
    return None if given is None else len(given.split(","))


def _number(text: str | None) -> int | None:
    """Return the number at the end of a text such as `4` or `h100:4`."""
    match = re.search(r"(\d+)$", text or "")
    return int(match[1]) if match else None
