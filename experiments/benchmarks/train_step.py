"""Training steps of YOLOv5 in this library and in PyTorch: throughput, utilisation, memory, waiting for data.

    python -m experiments.benchmarks.train_step
    python -m experiments.benchmarks.train_step --sizes n x --image-sizes 640 1536 --dtypes float32 bfloat16

The first command is the default on a CPU: size n at 320² in float32. Most of its time is compilation. The second
command is the whole table and the default on an accelerator. Any part of it can be run separately.

Each framework has its own process. They run in turns, in alternating order, on the same batches in the memory of the
device, from the same parameters. JAX runs the step of `ugs train`. PyTorch runs the same network, assignment, losses
(CIoU), clipping, optimizer and moving averages (`torch_yolov5`, `torch_objective`, `torch_training`; tests compare
parameters, outputs, losses and several steps). It uses channels-last memory, `torch.compile` for loss and network, a
fused optimizer, and autocast for bfloat16. On a GPU it also uses cuDNN's benchmark mode, and TF32 for float32, as JAX
does by default. Only JAX checks every step for numbers that are not finite, and measures curvature at one step in
twenty. `--objective ugs` measures UGS, in JAX only.

- `jax_over_torch`: images per second of JAX over those of PyTorch, by median times, with the 95 % bootstrap interval
  over turns. `processor_ratio` is the same by processor time. On a busy CPU, the threads of PyTorch wait for each other
  at every operation, up to a hundred times as long as a single thread takes. Then compare processor times, with
  `--threads 1` or OMP_WAIT_POLICY=PASSIVE; a peak rate that is measured there (see `mfu`) is too low. On a GPU,
  processor time says nothing.
- `mfu`: FLOPs of the model's matrix products and convolutions, forward and backward (`flops.py`; without recomputation
  and element-wise work), over time and peak rate. The peak rate of a GPU in `ugs_jax.planning.hardware` is that of the
  vendor. For other GPUs and for CPUs, it is that of the fastest large matrix product by either framework, in float32 or
  the type of the case, before or after the turns.
- `host_wait_share`: share of the time that the device waits for the next batch, in steps with the real loader (mosaic,
  crowded synthetic scenes).
- `compiled_peak`: memory of JAX's program, reported by its compiler, bytes. `device_peak`: high-water mark of the
  framework's allocator on a GPU. `resident_peak`: peak memory of the process from the end of the warm-up to the last
  turn. `resident_before`: its memory after imports and batches.

The last line is JSON. Its leading keys are the worst of all rows: the smallest `jax_over_torch` and `mfu`, and the
largest `host_wait_share`. If JAX could not run a case, `failed` has the reason; if PyTorch could not, `torch_failed`.
"""

import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import tyro
from rich.console import Console

from data_pipeline import LoaderOptions, TinyScenes, TrainLoader
from experiments.benchmarks.flops import gradient_flops
from experiments.benchmarks.training_sides import Framework, Problem, Worker
from experiments.benchmarks.training_table import Turns, comparison, print_table, worst
from ugs_jax.detectors.network_options import Size
from ugs_jax.experiment import Experiment, Network, build_detector
from ugs_jax.objectives import UGS, BoxRegression
from ugs_jax.planning.hardware import HARDWARE

Dtype = Literal["float32", "bfloat16"]

_IMAGES = {"p": 128, "n": 64, "s": 48, "m": 24, "l": 12, "x": 8}
"""Images of 640 × 640 px in a batch, by size, for an accelerator with 80 GB that both frameworks share."""


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      sizes: Sizes of the YOLOv5 network; by default n and x, on a CPU n.
      image_sizes: Sides of the square images, px; by default 640 and 1536, on a CPU 320.
      dtypes: Types of the computation; by default float32 and bfloat16, on a CPU float32.
      batch: Number of images in a step; by default as many as fit in memory, on a CPU 2.
      repeats: Number of turns of each framework.
      steps: Number of steps in a turn; by default 10, on a CPU 1.
      warmup: Number of steps before the first turn.
      load_steps: Number of steps with the real loader.
      threads: Number of cores that each process may use; by default all.
      torch: Mode of PyTorch. It is left out if it is not installed.
      torch_limit: Longest time until the first steps of PyTorch are done, seconds; by default any. If it takes longer
        or fails, the row has JAX alone, and the reason.
      objective: Localization objective. PyTorch has CIoU only.
      p2: Add the level with stride 4.
      max_boxes: Number of boxes that each image is padded to.
      workers: Number of worker processes of the loader.
      batches: Number of different batches, used in turn.
      product: Side of the matrices whose product gives the peak rate; by default 8192, on a CPU 2048.
      seed: Seed of parameters and data.
    """

    sizes: tuple[Size, ...] | None = None
    image_sizes: tuple[int, ...] | None = None
    dtypes: tuple[Dtype, ...] | None = None
    batch: int | None = None
    repeats: int = 10
    steps: int | None = None
    warmup: int = 3
    load_steps: int = 10
    threads: int | None = None
    torch: Literal["compile", "eager", "none"] = "compile"
    torch_limit: float | None = None
    objective: Literal["ciou", "ugs"] = "ciou"
    p2: bool = False
    max_boxes: int = 300
    workers: int = 0
    batches: int = 2
    product: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
          ValueError: A count is below 1.
        """
        for name in ("batch", "repeats", "steps", "load_steps", "threads", "batches", "product"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")

    def resolved(self) -> "Settings":
        """Return the settings with the defaults of this machine filled in."""
        on_cpu = jax.default_backend() == "cpu"
        return replace(
            self,
            sizes=self.sizes or (("n",) if on_cpu else ("n", "x")),
            image_sizes=self.image_sizes or ((320,) if on_cpu else (640, 1536)),
            dtypes=self.dtypes or (("float32",) if on_cpu else ("float32", "bfloat16")),
            steps=self.steps or (1 if on_cpu else 10),
            product=self.product or (2048 if on_cpu else 8192),
        )


class Case(NamedTuple):
    """One row of the table."""

    size: Size
    image_size: int
    dtype: Dtype


def batch_size(case: Case, settings: Settings) -> int:
    """Return the number of images in a step."""
    if settings.batch is not None:
        return settings.batch
    at_640 = 2 if jax.default_backend() == "cpu" else _IMAGES[case.size]
    return max(1, int(at_640 * min((640 / case.image_size) ** 2, 1)))


def problem_of(case: Case, settings: Settings) -> Problem:
    """Return the training problem of a case."""
    sides, images = (case.image_size, case.image_size), batch_size(case, settings)
    loader = LoaderOptions(sides, images, settings.max_boxes, workers=settings.workers, seed=settings.seed)
    experiment = Experiment(
        name="train step",
        data=TinyScenes("full", sides, train_images=max(images, 8), val_images=1, seed=settings.seed),
        localization=BoxRegression() if settings.objective == "ciou" else UGS(),
        network=Network(case.size, settings.p2, dtype=case.dtype),
        loader=loader,
        seed=settings.seed,
    )
    dataset = experiment.data.open("train")
    reader = TrainLoader(dataset, replace(loader, threads=0, workers=0))
    batches = [reader.batch_at(i) for i in range(settings.batches)]
    detector = build_detector(experiment, dataset)
    return Problem(experiment, detector, batches, settings.warmup, settings.torch == "compile", settings.threads)


def frameworks(settings: Settings) -> tuple[Framework, ...]:
    """Return the frameworks to measure."""
    present = importlib.util.find_spec("torch") is not None
    return ("jax", "torch") if present and settings.torch != "none" and settings.objective == "ciou" else ("jax",)


def interleave(workers: Sequence[Worker], case: Case, settings: Settings) -> list[Turns]:
    """Time all workers in turns. Every other turn runs in reverse order. Matrix products run before and after."""
    turns = [Turns([], [], {}, []) for _ in workers]

    def multiply() -> None:
        for worker, own in zip(workers, turns, strict=True):
            for dtype in dict.fromkeys(("float32", case.dtype)):
                own.products.append(worker.ask("product_rate", settings.product, dtype)[0])

    multiply()
    for turn in range(settings.repeats):
        order = range(len(workers)) if turn % 2 else reversed(range(len(workers)))
        for i in order:
            _, (wall, processor), memory = workers[i].ask("run", settings.steps)
            turns[i].wall.append(wall)
            turns[i].processor.append(processor)
            turns[i].memory.update(memory)
    multiply()
    return turns


def peak_rate(device_kind: str, dtype: Dtype, products: Sequence[float]) -> tuple[float, str]:
    """Return the peak FLOP/s of the device, and the source of the figure."""
    kinds = [chip for chip in HARDWARE.values() if chip.name in device_kind.lower().replace(" ", "")]
    if not kinds:
        return max(products), "measured product of matrices"
    return getattr(kinds[0], dtype), kinds[0].source


def measure(case: Case, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure one row.

    Raises:
      ChildProcessError: JAX could not run the case.
    """
    label = f"{case.size}, {case.image_size} px, {case.dtype}"
    say(f"{label}: batches")
    problem = problem_of(case, settings)
    flops = gradient_flops(problem.detector, problem.experiment.loader, problem.experiment.loss_weights)
    images = problem.experiment.loader.batch_size * (settings.steps or 1)
    with ExitStack() as stack:
        workers, compiling, missing = [], [], {}
        for framework in frameworks(settings):
            say(f"{label}: {framework} compiles")
            worker = Worker(framework, problem)
            stack.callback(worker.close)
            try:
                seconds = worker.ready(settings.torch_limit if framework == "torch" else None)["warmup_seconds"]
            except ChildProcessError as error:
                if framework == "jax":
                    raise
                missing["torch_failed"] = str(error)
                continue
            compiling.append(seconds)
            workers.append(worker)
        say(f"{label}: timing")
        turns = interleave(workers, case, settings)
        facts = [worker.ask("facts")[0] for worker in workers]
        say(f"{label}: with the loader")
        loading = workers[0].ask("load", settings.load_steps)[0]
    device = jax.devices()[0].device_kind
    peak, source = peak_rate(device, case.dtype, [rate for own in turns for rate in own.products])
    row: dict[str, Any] = {**case._asdict(), "batch": problem.experiment.loader.batch_size, **missing}
    row |= {
        "parameters": problem.detector.num_parameters(),
        "model_flops_per_step": flops,
        "peak_flops": round(peak),
        "peak_is": source,
    }
    for worker, own, known, seconds in zip(workers, turns, facts, compiling, strict=True):
        low, median, high = np.quantile(own.wall, [0.25, 0.5, 0.75])
        row[worker.framework] = {
            "images_per_second": round(images / median, 3),
            "images_per_second_quartiles": [round(images / high, 3), round(images / low, 3)],
            "images_per_second_best": round(images / min(own.wall), 3),
            "processor_seconds_per_image": round(float(np.median(own.processor)) / images, 4),
            "mfu": round(flops * (settings.steps or 1) / median / peak, 4),
            "product_flops": round(max(own.products)),
            "warmup_seconds": round(seconds, 1),
            **known,
            **own.memory,
        }
    row["mfu"] = row["jax"]["mfu"]
    row["host_wait_share"] = round(loading["host_wait_share"], 4)
    row["loader_images_per_second"] = round(loading["images_per_second"], 3)
    return row | comparison(turns)


def main(settings: Settings) -> None:
    """Measure, print the table, and print one line of JSON at the end."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # this process takes no GPU memory
    settings, console = settings.resolved(), Console()
    rows: list[dict[str, Any]] = []
    cases = product(settings.sizes or (), settings.image_sizes or (), settings.dtypes or ())
    with Console(stderr=True).status("") as status:
        for case in (Case(*values) for values in cases):
            try:
                rows.append(measure(case, settings, status.update))
            except ChildProcessError as error:
                rows.append({**case._asdict(), "failed": str(error)})
    print_table(rows, console)
    result = {
        "benchmark": "train_step",
        "jax_over_torch": worst(rows, "jax_over_torch", min),
        "mfu": worst(rows, "mfu", min),
        "host_wait_share": worst(rows, "host_wait_share", max),
        "rows": rows,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        **asdict(settings),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
