"""Cost of padding boxes in a training step, which `loader.box_buckets` can save.

    python -m experiments.benchmarks.padding_cost --size n --image-size 640 640 --batch-size 2 --repeats 9

The same step is compiled for every value of `--rooms`, the number of boxes that images are padded to. The programs run
in turns on batches that differ only in their padding, as in `step_cost`, which has the same other settings. The last
line is JSON: for every value, the ratio of its median processor time to that of the smallest value, with its 95 %
interval, and the ratio of the memory of the compiled programs.
"""

import json
import os
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import tyro
from rich.console import Console

from data_pipeline.rows import cut_boxes
from experiments.benchmarks.step_cost import Objective, Settings, compile_objective, make_batches
from ugs_jax import losses
from ugs_jax.analysis.step_cost import interleave, ratio_of_medians
from ugs_jax.objectives import UGS, BoxRegression


@dataclass(frozen=True)
class Rooms(Settings):
    """Settings of the measurement.

    Attributes:
      rooms: Numbers of boxes that each image is padded to; at least the largest number of boxes in an image.
      objective: Localization objective.
    """

    rooms: tuple[int, ...] = (320, 640, 1280)
    objective: Literal["ugs", "ciou"] = "ugs"


def main(settings: Rooms) -> None:
    """Measure, and print one line of JSON."""
    rooms = sorted(settings.rooms)
    settings = replace(settings, max_boxes=rooms[-1])
    localization: Objective = UGS() if settings.objective == "ugs" else BoxRegression(losses.ciou)
    with Console(stderr=True).status("compiling, then timing"):
        dataset, batches = make_batches(settings)
        most = max(int(batch.mask.sum(axis=-1).max()) for batch in batches)
        if most > rooms[0]:
            raise ValueError(f"--rooms: expected at least {most}, the boxes of one of the images, got {rooms[0]}")
        cut: list[Any] = [tuple(cut_boxes(batch, room) for room in rooms) for batch in batches]
        compiled = [compile_objective(localization, dataset, settings, own) for own in cut[0]]
        programs = [program._replace(step=_with_own(program.step, i)) for i, program in enumerate(compiled)]
        times = interleave(programs, cut, settings.repeats, settings.warmup)
    by_room = {}
    for room, program, time in zip(rooms, programs, times, strict=True):
        ratio, interval = ratio_of_medians(time.processor, times[0].processor)
        by_room[room] = {
            "processor_ratio": round(ratio, 4),
            "processor_ratio_interval": [round(end, 4) for end in interval],
            "time_ratio": round(ratio_of_medians(time.wall, times[0].wall)[0], 4),
            "memory_ratio": round(program.bytes["peak"] / programs[0].bytes["peak"], 4),
        }
    result = {
        "benchmark": "padding_cost",
        "objective": settings.objective,
        "most_boxes": most,
        "rooms": by_room,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
    }
    print(json.dumps(result))


def _with_own(step: Any, i: int) -> Any:
    return lambda state, cut: step(state, cut[i])


if __name__ == "__main__":
    main(tyro.cli(Rooms, description=__doc__))
