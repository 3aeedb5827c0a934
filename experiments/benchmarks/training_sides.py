"""JAX and PyTorch training one model, each in a process that waits for orders; for `benchmarks.train_step`."""

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
"""For the schedule."""

Framework = Literal["jax", "torch"]


@dataclass(frozen=True)
class Problem:
    """What both train.

    Attributes:
      experiment: the step and the loader; its data are opened where the loader is measured.
      detector: the network and its objective.
      batches: that the steps cycle through, on the device.
      warmup: steps before any is timed.
      compiled: whether PyTorch compiles.
      threads: cores that either process may use; None for all.
    """

    experiment: Experiment
    detector: Detector
    batches: Sequence[Batch]
    warmup: int
    compiled: bool
    threads: int | None = None


class Side(Protocol):
    """One framework's trainer."""

    def run(self, steps: int) -> None:
        """So many steps on batches that are on the device already; waits for the last."""

    def product_rate(self, side: int, dtype: str) -> float:
        """FLOP/s of a large product of matrices."""

    def facts(self) -> dict[str, Any]:
        """What is known of the program and its memory, bytes."""


class JaxSide:
    """The library's own step, its state donated."""

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
        """So many steps on batches that are on the device already; waits for the last."""
        for _ in range(steps):
            self.state, metrics = self.step(self.state, self.batches[self.steps % len(self.batches)])
            self.steps += 1
        jax.block_until_ready((self.state, metrics))

    def load(self, steps: int) -> dict[str, float | None]:
        """Steps on batches from the loader; each is waited for, so that waiting for data is time the device idles."""
        experiment = self.problem.experiment
        loader = TrainLoader(experiment.data.open("train"), experiment.loader)
        stopwatch = Stopwatch(experiment.loader.batch_size)
        with closing(prefetch(loader.batches(), batch_sharding(self.mesh))) as batches:
            for _ in range(2):  # what was loaded ahead
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
        """FLOP/s of a large product of matrices."""
        matrix = jnp.ones((side, side), dtype)
        product = jax.jit(jnp.matmul).lower(matrix, matrix).compile()
        best, until = math.inf, time.perf_counter() + 1
        while math.isinf(best) or time.perf_counter() < until:
            start = time.perf_counter()
            jax.block_until_ready(product(matrix, matrix))
            best = min(best, time.perf_counter() - start)
        return 2 * side**3 / best

    def facts(self) -> dict[str, Any]:
        """What is known of the program and its memory, bytes."""
        counted = jax.local_devices()[0].memory_stats() or {}
        return {
            "version": jax.__version__,
            "compiled_peak": read_footprint(self.step).peak,
            "device_peak": counted.get("peak_bytes_in_use"),
        }


class TorchSide:
    """The same in PyTorch."""

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
        """So many steps on batches that are on the device already; waits for the last."""
        for _ in range(steps):
            self.trainer.step(self.batches[self.trainer.steps % len(self.batches)])
        self.trainer.wait()

    def product_rate(self, side: int, dtype: str) -> float:
        """FLOP/s of a large product of matrices."""
        return self._training.product_rate(side, dtype)

    def facts(self) -> dict[str, Any]:
        """What is known of the program and its memory, bytes."""
        cuda = self._torch.cuda
        return {
            "version": self._torch.__version__,
            "threads": self._torch.get_num_threads(),
            "eager_because": self.trainer.eager,
            "device_peak": cuda.max_memory_allocated() if cuda.is_available() else None,
        }


def serve(connection: Connection, framework: Framework, problem: Problem) -> None:
    """Build a side, then answer orders until one is `None`: a method's name and its arguments."""
    if problem.threads is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: problem.threads])
    before = _resident("VmRSS")
    started = time.perf_counter()
    side: Any = JaxSide(problem) if framework == "jax" else TorchSide(problem)
    side.run(problem.warmup)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here, without what compilers took
    connection.send({"warmup_seconds": time.perf_counter() - started})
    while (order := connection.recv()) is not None:
        method, *arguments = order
        wall, processor = time.perf_counter(), time.process_time()
        answer = getattr(side, method)(*arguments)
        times = time.perf_counter() - wall, time.process_time() - processor
        memory = {"resident_before": before, "resident_peak": _resident("VmHWM")}
        connection.send((answer, times, memory))


class Worker:
    """A side in its own process.

    Raises:
      ChildProcessError: from any method, when the process has ended; its own message is on standard error.
    """

    def __init__(self, framework: Framework, problem: Problem) -> None:
        self.framework, context = framework, get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, framework, problem), daemon=False)
        with _environment(framework):
            self._process.start()
        theirs.close()

    def ready(self) -> dict[str, float]:
        """Wait until it has built and warmed up; how long that took."""
        return self._receive()

    def ask(self, method: str, *arguments: Any) -> tuple[Any, tuple[float, float], dict[str, int]]:
        """The answer, seconds passed and of processor time, resident bytes."""
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
    """What a process must find at its start: JAX leaves memory of a GPU to PyTorch, and PyTorch's process all of it."""
    wanted = {"jax": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}, "torch": {"JAX_PLATFORMS": "cpu"}}[framework]
    kept = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def _resident(kind: str) -> int:
    """Bytes of this process in memory: now (`VmRSS`) or at most (`VmHWM`)."""
    (kibibytes,) = re.findall(rf"{kind}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(kibibytes)
