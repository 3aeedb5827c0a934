"""Joining a job of several processes: GPUs of a task, and errors without such a job."""

import logging
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from ugs_jax.cli import main
from ugs_jax.runs.local_devices import local_devices
from ugs_jax.runs.processes import join_processes

ROOT = Path(__file__).parents[2]
CLUSTER = ("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR", "JAX_LOCAL", "CUDA_VISIBLE", "ROCR_", "HIP_", "TPU_")
EIGHT, SIXTEEN = ",".join("01234567"), ",".join(map(str, range(16)))


def slurm(tasks, task=0, node=0, **more):
    return {
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_LOCALID": str(task),
        "SLURM_NODEID": str(node),
        "CUDA_VISIBLE_DEVICES": EIGHT,
        **more,
    }


def open_mpi(tasks, task, **more):
    return {"OMPI_COMM_WORLD_LOCAL_SIZE": str(tasks), "OMPI_COMM_WORLD_LOCAL_RANK": str(task), **more}


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({}, None),
        (slurm("1(x4)"), []),
        (slurm("1(x4)", node=3, CUDA_VISIBLE_DEVICES=""), []),
        (slurm("8(x2),1", node=2), []),
        (slurm("8(x4)", task=5, node=1), [5]),
        (slurm("8(x4)", task=5, CUDA_VISIBLE_DEVICES="0"), []),  # --gpus-per-task=1
        (slurm("2(x4)", task=1, CUDA_VISIBLE_DEVICES="4,5,6,7", SLURM_GPUS_PER_TASK="h100:4"), []),
        (slurm("2(x4)", task=1, SLURM_GPUS_PER_TASK="4"), [4, 5, 6, 7]),  # not bound
        (slurm("2(x4)", task=1), [4, 5, 6, 7]),
        (slurm("2(x4)", task=1, CUDA_VISIBLE_DEVICES=""), None),
        ({"SLURM_NTASKS_PER_NODE": "1", "SLURM_LOCALID": "0"}, []),
        ({"SLURM_JOB_ID": "7"}, None),
        (open_mpi(1, 0), []),
        (open_mpi(8, 3, CUDA_VISIBLE_DEVICES=EIGHT), [3]),
        (open_mpi(8, 3, ROCR_VISIBLE_DEVICES=SIXTEEN), [6, 7]),
        (open_mpi(8, 3) | slurm("1(x2)"), [3]),  # mpirun in a job of Slurm, whose tasks are the daemons
        (slurm("1(x4)", JAX_LOCAL_DEVICE_IDS="2"), None),
    ],
)
def test_a_task_takes_all_gpus_of_its_host_or_a_share(environment, devices):
    assert local_devices(environment) == devices


@pytest.fixture
def no_cluster(monkeypatch):
    for name in os.environ:
        if name.startswith(CLUSTER):
            monkeypatch.delenv(name)


@pytest.fixture
def asked(no_cluster, monkeypatch):
    """What JAX was asked for."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given, **more: calls.append((given, more)))
    return calls


def test_one_task_on_a_node_uses_all_devices_and_one_task_for_each_gpu_uses_its_own(asked, monkeypatch):
    for tasks in ("1(x4)", "8(x4)"):
        for name, value in slurm(tasks, task=0).items():
            monkeypatch.setenv(name, value)
        join_processes()
    assert [more["local_device_ids"] for _, more in asked] == [[], [0]]
    assert [given for given, _ in asked] == [(None, None, None)] * 2


def join_twice():
    """As a lone task that Slurm says is alone on its host, and as one of which it does not: JAX's own rule."""
    logging.basicConfig(level=logging.INFO, force=True)
    for _ in range(2):
        join_processes()
        jax.distributed.shutdown()
        os.environ.pop("SLURM_STEP_TASKS_PER_NODE", None)


def test_jax_uses_all_devices_for_an_empty_list(no_cluster):
    names = dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"), "0")
    environment = os.environ | names | {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "localhost"}
    environment |= {"SLURM_STEP_TASKS_PER_NODE": "1", "JAX_COORDINATOR_PORT": str(free_port()), "JAX_PLATFORMS": "cpu"}
    code = "from tests.runs.test_joining import join_twice; join_twice()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, _, second = done.stderr.partition("Connecting to JAX distributed service")
    assert "visible devices" not in first
    assert "visible devices: 0" in second


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


TRAIN = ["train", "first_light_ugs", "--folder", "unused"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--processes", "4"], "expected --coordinator, --processes and --process together.* got no --coordinator and"),
        (["--process", "0"], "got no --coordinator and no --processes; give all three"),
        (["--coordinator", "host0:1234"], "got no --processes and no --process; give all three"),
        (["--distributed", "--processes", "2", "--process", "1"], "got no --coordinator; give all three"),
        (["--coordinator", "host0", "--processes", "2", "--process", "1"], "HOST:PORT .* 'host0'; .* host0:1234"),
        (["--coordinator", "h:99999", "--processes", "2", "--process", "1"], "HOST:PORT .* 'h:99999'; .* h:1234"),
        (["--coordinator", "h:1", "--processes", "2", "--process", "2"], "a number from 0 to 1, got 2"),
    ],
)
def test_an_invalid_job_is_an_error_with_a_remedy(words, message, no_cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN, *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not any(tmp_path.iterdir())


def test_without_a_cluster_the_command_reports_it(no_cluster, tmp_path):
    command = [sys.executable, "-m", "ugs_jax.cli", *TRAIN, "--distributed"]  # JAX joins before its first computation
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(r"expected a cluster that says how many processes .* got none: .* leave --distributed out", line)
    assert not any(tmp_path.iterdir())


def test_a_first_process_that_cannot_be_reached_is_an_error(asked):
    with pytest.raises(ConnectionError, match=r"expected to reach process 0, got: .*refused.* within 0\.1 s"):
        join_processes(f"localhost:{free_port()}", 2, 1, timeout=0.1)
    assert not asked


def test_a_port_that_is_taken_is_an_error(asked):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConnectionError, match=r"expected a free port here, got: .*in use"):
            join_processes(f"localhost:{port}", 2, 0)
        assert not asked
        join_processes(f"localhost:{port}", 2, 1)  # it listens
    (((_, processes, process), _),) = asked
    assert (processes, process) == (2, 1)


def test_errors_of_jax_about_a_job_are_reported_without_a_traceback(no_cluster, tmp_path, monkeypatch, capsys):
    def initialize(*given, **more):
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    assert main([*TRAIN, "--distributed"]) == 1
    assert "expected to join the other processes, got: DEADLINE_EXCEEDED" in capsys.readouterr().err
