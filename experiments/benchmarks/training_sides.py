"""JAX and PyTorch trainers of one model, each in a process that executes requests; for `benchmarks.train_step`."""

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from data_pipeline import Batch, TrainLoader, prefetch
from ugs_jax.detectors import Detector
from ugs_jax.experiment import Experiment
from ugs_jax.planning.program import read_footprint
from ugs_jax.runs import create_state, device_mesh
from ugs_jax.runs.sharding import batch_sharding
from ugs_jax.training.step import build_program
from ugs_jax.training.stopwatch import Stopwatch

STEPS_PER_EPOCH = 100
"""Number of steps in an epoch, for the schedule."""

PRODUCT_SECONDS = 0.5
"""Time for repetitions of a matrix product."""

Framework = Literal["jax", "torch"]


@dataclass(frozen=True)
class Problem:
    """Training problem of both frameworks.

    Attributes:
      experiment: Experiment with the step and the loader. Its data set is opened when the loader is measured.
      detector: Network and objective.
      batches: Batches that the steps use in turn, on the device.
      warmup: Number of steps before the timed ones.
      compiled: Use `torch.compile`.
      threads: Number of cores that each process may use; None for all.
    """

    experiment: Experiment
    detector: Detector
    batches: Sequence[Batch]
    warmup: int
    compiled: bool
    threads: int | None = None


class Side(Protocol):
    """Trainer of one framework."""

    def run(self, steps: int) -> None:
        """Run `steps` steps on batches that are on the device, and wait for the last one."""

    def product_rate(self, side: int, dtype: str) -> float:
        """Return the FLOP/s of a large matrix product."""

    def facts(self) -> dict[str, Any]:
        """Return versions and memory of the program, bytes."""


class JaxSide:
    """Trainer of this library, with donated state."""

    def __init__(self, problem: Problem) -> None:
        self.problem, experiment = problem, problem.experiment
        self.mesh = device_mesh(1)
        program = build_program(experiment, problem.detector, self.mesh, STEPS_PER_EPOCH)
        self.state = jax.device_put(
            create_state(problem.detector, program.optimizer, experiment.seed), program.shardings
        )
        self.batches = [jax.device_put(batch, batch_sharding(self.mesh)) for batch in problem.batches]
        lowered: Any = program.step
        self.step = lowered.lower(self.state, self.batches[0]).compile()
        self.steps = 0

    def run(self, steps: int) -> None:
        """Run `steps` steps on batches that are on the device, and wait for the last one."""
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batches[self.steps % len(self.batches)])
            self.steps += 1
        jax.block_until_ready((self.state, metrics))

    def load(self, steps: int) -> dict[str, float | None]:
        """Run steps on batches of the loader, and return times.

        Each step is completed before the next batch is requested, so that the device idles while it waits for data.
        """
        experiment = self.problem.experiment
        loader = TrainLoader(experiment.data.open("train"), experiment.loader)
        stopwatch = Stopwatch(experiment.loader.batch_size)
        with closing(prefetch(loader.batches(), batch_sharding(self.mesh))) as batches:
            for _ in range(2):  # batches that were loaded ahead
                self.state, metrics = jax.block_until_ready(self.step(self.state, next(batches)))
            stopwatch.start()
            for _ in range(steps):
                with stopwatch.waiting():
                    batch = next(batches)
                self.state, metrics = jax.block_until_ready(self.step(self.state, batch))
                stopwatch.count()
            if int(metrics["bad_step"]) >= 0:
                raise FloatingPointError(f"step {int(metrics['bad_step'])}: expected finite numbers in training")
            return stopwatch.read()

    def product_rate(self, side: int, dtype: str) -> float:
        """Return the FLOP/s of a large matrix product."""
        matrix = jnp.ones((side, side), dtype)
        product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
        best, until = math.inf, time.perf_counter() + PRODUCT_SECONDS
        while math.isinf(best) or time.perf_counter() < until:
            start = time.perf_counter()
            jax.block_until_ready(product(matrix, matrix))
            best = min(best, time.perf_counter() - start)
        return 2 * side**3 / best

    def facts(self) -> dict[str, Any]:
        """Return versions and memory of the program, bytes."""
        counted = jax.local_devices()[0].memory_stats() or {}
        return {
            "version": jax.__version__,
            "compiled_peak": read_footprint(self.step).peak,
            "device_peak": counted.get("peak_bytes_in_use"),
        }


class TorchSide:
    """Trainer of PyTorch."""

    def __init__(self, problem: Problem) -> None:
        import torch

        from experiments.benchmarks import torch_training, torch_yolov5

        self._torch, self._training = torch, torch_training
        detector = problem.detector
        self.trainer = torch_training.Trainer(
            detector.arch, problem.experiment, STEPS_PER_EPOCH, compiled=problem.compiled
        )
        torch_yolov5.load(self.trainer.loss.network, *detector.init(problem.experiment.seed))
        self.batches = [self.trainer.place(batch) for batch in problem.batches]

    def run(self, steps: int) -> None:
        """Run `steps` steps on batches that are on the device, and wait for the last one."""
        for _ in range(steps):
            self.trainer.step(self.batches[self.trainer.steps % len(self.batches)])
        self.trainer.wait()

    def product_rate(self, side: int, dtype: str) -> float:
        """Return the FLOP/s of a large matrix product."""
        return self._training.product_rate(side, dtype, PRODUCT_SECONDS)

    def facts(self) -> dict[str, Any]:
        """Return versions and memory of the program, bytes."""
        cuda = self._torch.cuda
        return {
            "version": self._torch.__version__,
            "threads": self._torch.get_num_threads(),
            "eager_because": self.trainer.eager,
            "device_peak": cuda.max_memory_allocated() if cuda.is_available() else None,
        }


def serve(connection: Connection, framework: Framework, problem: Problem) -> None:
    """Build a trainer, then execute requests until one is `None`. A request is the name of a method and arguments."""
    if problem.threads is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: problem.threads])
    before = _resident("VmRSS")
    started = time.perf_counter()
    side: Any = JaxSide(problem) if framework == "jax" else TorchSide(problem)
    side.run(problem.warmup)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here, without the memory of compilers
    connection.send({"warmup_seconds": time.perf_counter() - started})
    while (request := connection.recv()) is not None:
        method, *arguments = request
        wall, processor = time.perf_counter(), time.process_time()
        answer = getattr(side, method)(*arguments)
        times = time.perf_counter() - wall, time.process_time() - processor
        memory = {"resident_before": before, "resident_peak": _resident("VmHWM")}
        connection.send((answer, times, memory))


class Worker:
    """Trainer in its own process.

    Raises:
      ChildProcessError: The process has ended; any method can raise this. Its own message is on standard error.
    """

    def __init__(self, framework: Framework, problem: Problem) -> None:
        self.framework, context = framework, get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, framework, problem), daemon=False)
        with _environment(framework):
            self._process.start()
        theirs.close()

    def ready(self, limit: float | None = None) -> dict[str, float]:
        """Wait until the trainer is built and warmed up, and return the time that this took.

        Args:
          limit: Longest time to wait, seconds. A process that needs more is ended, and `ChildProcessError` is raised.
        """
        if not self._connection.poll(limit):
            self._process.kill()
            self._process.join()
            raise ChildProcessError(f"{self.framework}: expected a first step within {limit:g} s, got none")
        return self._receive()

    def ask(self, method: str, *arguments: Any) -> tuple[Any, tuple[float, float], dict[str, int]]:
        """Return the answer, the elapsed and the processor time in seconds, and the resident memory in bytes."""
        self._connection.send((method, *arguments))
        return self._receive()

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            self._connection.send(None)
        self._process.join()
        self._connection.close()

    def _receive(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError as error:
            self._process.join()
            raise ChildProcessError(
                f"{self.framework}: expected an answer, but the process ended with {self._process.exitcode}"
            ) from error


@contextmanager
def _environment(framework: Framework) -> Iterator[None]:
    """Set the environment of a new process. JAX leaves GPU memory to PyTorch, and uses none in PyTorch's process."""
    wanted = {"jax": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, "torch": {"JAX_PLATFORMS": "cpu"}}[framework]
    kept = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _resident(kind: str) -> int:
    """Return the resident memory of this process in bytes: current (`VmRSS`) or peak (`VmHWM`)."""
    (kibibytes,) = re.findall(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kibibytes)
