"""Time and peak memory of a training step with UGS, over those of a step with CIoU.

    python -m experiments.benchmarks.step_cost

The command takes about three minutes on two idle cores, mostly for compilation. Both steps are those of `ugs train`,
with donated state, on the same batches. Only the localization objective differs: `UGS()` with its defaults (CE on the
IN grid, UM, UR) and `BoxRegression(ciou)`. The last line is JSON.

`time_ratio` is the ratio of the median step times, UGS over CIoU. The two steps run in turns, in alternating order, so
that a drift of the machine's speed affects both. `time_ratio_interval` is its 95 % bootstrap interval, and
`time_ratio_quartiles` has the quartiles of the ratios within a turn. `processor_time_ratio` is the ratio of the
processor times of this process. It is more reliable on a busy machine, but on an accelerator it says nothing about the
device.

`memory_ratio` compares the device memory of the compiled programs: arguments + outputs + temporaries − aliased. If the
backend counts memory, `device_peak_ratio` compares the high-water mark after UGS, which runs last, with that after CIoU
alone. It is therefore at least 1.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from data_pipeline import Batch, Dataset, LoaderOptions, TinyScenes, TrainLoader
from ugs_jax import losses
from ugs_jax.analysis.step_cost import CompiledStep, Times, compile_step, interleave, ratio_of_medians
from ugs_jax.detectors.network_options import Size
from ugs_jax.experiment import Experiment, Network
from ugs_jax.objectives import DFL, UGS, BoxRegression
from ugs_jax.runs import device_mesh

Objective = BoxRegression | DFL | UGS
MEBIBYTE = 2.0**20


@dataclass(frozen=True)
class Settings:
    """Settings of the measurement.

    Attributes:
      size: Size of the YOLOv5 network.
      p2: Add the level with stride 4.
      image_size: Height and width, px; by default 640 640 on an accelerator and 256 320 on a CPU.
      batch_size: Images in a step; by default 16 on an accelerator and 4 on a CPU.
      max_boxes: Number of boxes that each image is padded to. The arrays of the localization loss have this size.
      dtype: Type of the network's computation.
      repeats: Number of timed steps of each method.
      warmup: Number of steps of each method before the timed ones.
      batches: Number of different batches, used in turn.
      seed: Seed of parameters and data.
    """

    size: Size = "n"
    p2: bool = True
    image_size: tuple[int, int] | None = None
    batch_size: int | None = None
    max_boxes: int = 300
    dtype: Literal["float32", "bfloat16"] = "float32"
    repeats: int = 40
    warmup: int = 3
    batches: int = 4
    seed: int = 0

    def resolved(self) -> "Settings":
        """Return the settings with the defaults of this machine filled in."""
        options = _loader_options(self)
        return dataclasses.replace(self, image_size=options.image_size, batch_size=options.batch_size)


def compile_objective(
    localization: Objective, dataset: Dataset, settings: Settings, batch: Batch, measure_every: int = 20
) -> CompiledStep:
    """Build and compile the training step of an objective. It measures sharpness every `measure_every` steps."""
    experiment = Experiment(
        name="step cost",
        data=TinyScenes(),
        localization=localization,
        network=Network(settings.size, settings.p2, dtype=settings.dtype),
        loader=_loader_options(settings),
        log_every=measure_every,
        seed=settings.seed,
    )
    return compile_step(experiment, dataset, batch, device_mesh(1))


def make_batches(settings: Settings) -> tuple[Dataset, list[Batch]]:
    """Return a data set of crowded synthetic scenes, and batches of it with mosaic on the device."""
    options = _loader_options(settings)
    count = max(options.batch_size, 8)
    data = TinyScenes("full", options.image_size, train_images=count, val_images=1, seed=settings.seed)
    dataset = data.open("train")
    loader = TrainLoader(dataset, options)
    return dataset, [jax.device_put(loader.batch_at(i)) for i in range(settings.batches)]


def device_peak() -> int | None:
    """Return the high-water mark of device memory in bytes; None if the backend does not count it."""
    stats = jax.local_devices()[0].memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats and "peak_bytes_in_use" in stats else None


def measure(settings: Settings, console: Console) -> tuple[dict[str, Any], list[CompiledStep], list[Times]]:
    """Run the measurement. Return the result, the programs and their times, CIoU first."""
    with console.status("batches") as status:
        dataset, batches = make_batches(settings)
        programs: list[CompiledStep] = []
        peaks: list[int | None] = []
        for name, localization in (("CIoU", BoxRegression(losses.ciou)), ("UGS", UGS())):
            status.update(f"compiling {name}")
            programs.append(compile_objective(localization, dataset, settings, batches[0]))
            jax.block_until_ready(programs[-1].step(programs[-1].start(), batches[0]))
            peaks.append(device_peak())
        status.update("timing")
        times = interleave(programs, batches, settings.repeats, settings.warmup)
    baseline, ugs = times
    time_ratio, time_interval = ratio_of_medians(ugs.wall, baseline.wall)
    processor_ratio, processor_interval = ratio_of_medians(ugs.processor, baseline.processor)
    pairwise = np.array(ugs.wall) / np.array(baseline.wall)
    positives = [int(np.sum(batch.mask)) for batch in batches]
    result: dict[str, Any] = {
        "benchmark": "step_cost",
        "time_ratio": round(time_ratio, 4),
        "memory_ratio": round(programs[1].bytes["peak"] / programs[0].bytes["peak"], 4),
        "time_ratio_interval": _rounded(time_interval),
        "time_ratio_quartiles": _rounded(np.quantile(pairwise, [0.25, 0.75])),
        "processor_time_ratio": round(processor_ratio, 4),
        "processor_time_ratio_interval": _rounded(processor_interval),
        "median_seconds": {"ciou": _median(baseline.wall), "ugs": _median(ugs.wall)},
        "median_processor_seconds": {"ciou": _median(baseline.processor), "ugs": _median(ugs.processor)},
        "memory_bytes": {"ciou": programs[0].bytes, "ugs": programs[1].bytes},
        "boxes_per_batch": positives,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        **dataclasses.asdict(settings),
    }
    before, after = peaks
    if before is not None and after is not None:
        result["device_peak_ratio"] = round(after / before, 4)
        result["device_peak_bytes"] = {"ciou": before, "ugs": after}
    return result, programs, times


def print_table(programs: Sequence[CompiledStep], times: Sequence[Times], settings: Settings, console: Console) -> None:
    """Print a table with one row for each method."""
    height, width = settings.image_size or (0, 0)
    network = f"{settings.size}{'-P2' if settings.p2 else ''}, {height} x {width}, batch {settings.batch_size}"
    table = Table(title=f"training step, {network}, {settings.max_boxes} boxes")
    for heading in ("objective", "median ms", "quartiles ms", "processor ms", "temporaries MiB", "peak MiB"):
        table.add_column(heading, justify="left" if heading == "objective" else "right")
    for name, program, time_ in zip(("CIoU", "UGS"), programs, times, strict=True):
        low, middle, high = np.quantile(time_.wall, [0.25, 0.5, 0.75]) * 1e3
        table.add_row(
            name,
            f"{middle:.1f}",
            f"{low:.1f} to {high:.1f}",
            f"{_median(time_.processor) * 1e3:.0f}",
            f"{program.bytes['temp'] / MEBIBYTE:.2f}",
            f"{program.bytes['peak'] / MEBIBYTE:.2f}",
        )
    console.print(table)


def _loader_options(settings: Settings) -> LoaderOptions:
    on_cpu = jax.default_backend() == "cpu"
    return LoaderOptions(
        image_size=settings.image_size or ((256, 320) if on_cpu else (640, 640)),
        batch_size=settings.batch_size or (4 if on_cpu else 16),
        max_boxes=settings.max_boxes,
        threads=0,
        seed=settings.seed,
    )


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 5)


def _rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(x), 4) for x in values]


def main(settings: Settings) -> None:
    """Measure, print the table, and print one line of JSON at the end."""
    settings = settings.resolved()
    console = Console()
    result, programs, times = measure(settings, console)
    print_table(programs, times, settings, console)
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
