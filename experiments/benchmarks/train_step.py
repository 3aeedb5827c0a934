"""Training steps of YOLOv5 in this library beside PyTorch: images/s, utilisation, memory, waiting for data.

    python -m experiments.benchmarks.train_step
    python -m experiments.benchmarks.train_step --sizes n x --image-sizes 640 1536 --dtypes float32 bfloat16

The first, for CPUs, is size n at 320² in float32; most of its time goes into compiling. The second is the whole table,
and the default where there is an accelerator; any part of it can be run by itself.

Either framework has a process of its own, and both take turns, swapping who goes first, on the same batches in the
memory of the device, from the same parameters. JAX runs the step that `ugs train` runs. PyTorch runs the same network,
assignment, losses (CIoU), clipping, optimizer and moving averages (`torch_yolov5`, `torch_objective`,
`torch_training`; the tests compare parameters, outputs, losses and several steps): channels last, loss and network
under `torch.compile`, fused optimizer, bfloat16 by autocast; on a GPU with cuDNN's benchmark mode, and TF32 for float32
as is JAX's default. Only JAX looks at every step for numbers that are not finite, and at one in twenty for curvature.
`--objective ugs` measures UGS, in JAX alone.

- `jax_over_torch`: images a second of JAX over those of PyTorch, by median times, with the 95 % bootstrap interval over
  turns; `processor_ratio` the same by processor time. On a CPU that is busy with other work, threads of PyTorch wait
  for each other at every operation, up to a hundred times as long as one thread takes: compare processor time there,
  with `--threads 1` or OMP_WAIT_POLICY=PASSIVE; a peak measured there (next) is too low. On a GPU processor time says
  nothing.
- `mfu`: FLOPs of the model's products and convolutions, forward and backward (`flops.py`; neither recomputation nor
  element-wise work), over time and peak. The peak of a GPU in `ugs_jax.planning.hardware` is the vendor's; of
  others and of CPUs it is the fastest large product of matrices by either framework, in float32 or the case's dtype,
  before or after the turns.
- `host_wait_share`: of the time of steps with the real loader (mosaic, crowded synthetic scenes), how much the device
  waits for the next batch.
- `compiled_peak`: bytes of JAX's program, by its compiler. `device_peak`: high-water mark of the framework's allocator
  on a GPU. `resident_peak`: of the process from the end of the warm-up to the last turn; `resident_before`: its imports
  and batches.

The last line is JSON. Its leading keys are the worst of the rows: the smallest `jax_over_torch` and `mfu`, the largest
`host_wait_share`. A case that a framework could not run says so in `failed`.
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
from ugs_jax.detectors.architecture import Size
from ugs_jax.experiment import Experiment, Network, build_detector
from ugs_jax.objectives import UGS, BoxRegression
from ugs_jax.planning.hardware import HARDWARE

Dtype = Literal["float32", "bfloat16"]

_IMAGES = {"p": 128, "n": 64, "s": 48, "m": 24, "l": 12, "x": 8}
"""Of 640 × 640 px in a batch of an accelerator with 80 GB, for which both frameworks have to find room at once."""


@dataclass(frozen=True)
class Settings:
    """What to measure.

    Attributes:
      sizes: of the YOLOv5; by default n and x, on a CPU n.
      image_sizes: sides of the square images, px; by default 640 and 1536, on a CPU 320.
      dtypes: of the computation; by default float32 and bfloat16, on a CPU float32.
      batch: images a step; by default what memory allows, on a CPU 2.
      repeats: turns of each framework.
      steps: in a turn; by default 10, on a CPU 1.
      warmup: steps before the first turn.
      load_steps: steps with the real loader.
      threads: cores that either process may use; by default all.
      torch: how PyTorch runs; it is left out where it is not installed.
      objective: of localization; PyTorch only has CIoU.
      p2: adds the stride-4 level.
      max_boxes: rows for boxes in the padded batch.
      workers: worker processes of the loader.
      batches: different batches that the steps cycle through.
      product: side of the matrices whose product gives the peak; by default 8192, on a CPU 2048.
      seed: of parameters and data.
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
    objective: Literal["ciou", "ugs"] = "ciou"
    p2: bool = False
    max_boxes: int = 300
    workers: int = 0
    batches: int = 2
    product: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what leaves nothing to time.

        Raises:
          ValueError: a count below 1.
        """
        for name in ("batch", "repeats", "steps", "load_steps", "threads", "batches", "product"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name.replace('_', '-')}: expected at least 1, got {value}")

    def resolved(self) -> "Settings":
        """The same with the defaults of this machine filled in."""
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
    """Images a step."""
    if settings.batch is not None:
        return settings.batch
    at_640 = 2 if jax.default_backend() == "cpu" else _IMAGES[case.size]
    return max(1, int(at_640 * min((640 / case.image_size) ** 2, 1)))


def problem_of(case: Case, settings: Settings) -> Problem:
    """What both frameworks train in this case."""
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
    """Which take part."""
    present = importlib.util.find_spec("torch") is not None
    return ("jax", "torch") if present and settings.torch != "none" and settings.objective == "ciou" else ("jax",)


def interleave(workers: Sequence[Worker], case: Case, settings: Settings) -> list[Turns]:
    """Times all in turns; in every other turn in reverse order. Products of matrices come before and after."""
    turns = [Turns([], [], {}, []) for _ in workers]

    def multiply() -> None:
        for worker, one in zip(workers, turns, strict=True):
            for dtype in dict.fromkeys(("float32", case.dtype)):
                one.products.append(worker.ask("product_rate", settings.product, dtype)[0])

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
    """Highest FLOP/s of the device, and where the figure is from."""
    kinds = [chip for chip in HARDWARE.values() if chip.name in device_kind.lower().replace(" ", "")]
    if not kinds:
        return max(products), "measured product of matrices"
    return getattr(kinds[0], dtype), kinds[0].source


def measure(case: Case, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """One row.

    Raises:
      ChildProcessError: a framework could not run it.
    """
    label = f"{case.size}, {case.image_size} px, {case.dtype}"
    say(f"{label}: batches")
    problem = problem_of(case, settings)
    flops = gradient_flops(problem.detector, problem.experiment.loader, problem.experiment.loss_weights)
    images = problem.experiment.loader.batch_size * (settings.steps or 1)
    with ExitStack() as stack:
        workers, compiling = [], []
        for framework in frameworks(settings):
            say(f"{label}: {framework} compiles")
            worker = Worker(framework, problem)
            stack.callback(worker.close)
            compiling.append(worker.ready()["warmup_seconds"])
            workers.append(worker)
        say(f"{label}: timing")
        turns = interleave(workers, case, settings)
        facts = [worker.ask("facts")[0] for worker in workers]
        say(f"{label}: with the loader")
        loading = workers[0].ask("load", settings.load_steps)[0]
    device = jax.devices()[0].device_kind
    peak, source = peak_rate(device, case.dtype, [rate for one in turns for rate in one.products])
    row: dict[str, Any] = {**case._asdict(), "batch": problem.experiment.loader.batch_size}
    row |= {
        "parameters": problem.detector.num_parameters(),
        "model_flops_per_step": flops,
        "peak_flops": round(peak),
        "peak_is": source,
    }
    for worker, one, known, seconds in zip(workers, turns, facts, compiling, strict=True):
        low, median, high = np.quantile(one.wall, [0.25, 0.5, 0.75])
        row[worker.framework] = {
            "images_per_second": round(images / median, 3),
            "images_per_second_quartiles": [round(images / high, 3), round(images / low, 3)],
            "images_per_second_best": round(images / min(one.wall), 3),
            "processor_seconds_per_image": round(float(np.median(one.processor)) / images, 4),
            "mfu": round(flops * (settings.steps or 1) / median / peak, 4),
            "product_flops": round(max(one.products)),
            "warmup_seconds": round(seconds, 1),
            **known,
            **one.memory,
        }
    row["mfu"] = row["jax"]["mfu"]
    row["host_wait_share"] = round(loading["host_wait_share"], 4)
    row["loader_images_per_second"] = round(loading["images_per_second"], 3)
    return row | comparison(turns)


def main(settings: Settings) -> None:
    """Measures, prints the table and, last, one line of JSON."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # of a GPU's memory, this process takes none
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
