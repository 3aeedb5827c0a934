"""How training scales with devices, from compiled programs: work and communication of each, none of them run.

    python -m experiments.benchmarks.data_scaling
    python -m experiments.benchmarks.data_scaling --devices 1 --topology v5e:16x16    # also for chips that are not here

compiles the step of `ugs train` for 1, 2, 4 and 8 simulated CPU devices with the same number of images on each (weak
scaling), and reads off the programs: `work`, FLOPs of a device over those of one device alone, 1 if nothing is
computed twice; the bytes that a device sends along a ring; and the `efficiency` these come to on `--chip`. That is
t₁ / (work · t₁ + t_sent) with t₁ the FLOPs of one device at the chip's peak and t_sent the bytes at the peak of its
links: nothing hidden behind the computation, which no program is as fast as, so that it is low rather than high; but
without latency. For a topology t₁ is what limits its roofline, computation or HBM. The last line is JSON.
"""

import json
import os
from dataclasses import dataclass

import tyro

_SIMULATED = 8
os.environ.setdefault("JAX_PLATFORMS", "cpu")
for _name, _value in (("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"), ("TPU_SKIP_MDS_QUERY", "1")):
    os.environ.setdefault(_name, _value)
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={_SIMULATED}"

import jax  # noqa: E402, after the flags it reads
from jax.sharding import Mesh  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from data_pipeline import LoaderOptions, TinyScenes  # noqa: E402
from ugs_jax.detectors.architecture import Size  # noqa: E402
from ugs_jax.experiment import Experiment, Network, Parallel  # noqa: E402
from ugs_jax.planning import plan_training  # noqa: E402
from ugs_jax.planning.collectives import traffic  # noqa: E402
from ugs_jax.planning.hardware import HARDWARE, Hardware, parse_topology  # noqa: E402
from ugs_jax.planning.program import Footprint, measure, program_of  # noqa: E402
from ugs_jax.runs import device_mesh  # noqa: E402

_QUICKLY = {"xla_backend_optimization_level": "0", "xla_llvm_disable_expensive_passes": True}  # machine code, not HLO


@dataclass(frozen=True)
class Settings:
    """What to compile.

    Attributes:
      size: of the YOLOv5.
      p2: adds the stride-4 level.
      image_size: height and width, px.
      images: on each device.
      max_boxes: rows of boxes an image is padded to.
      split: what of the state is kept in parts.
      devices: numbers of simulated devices; the first is what the others are compared with.
      chip: whose rates the efficiency is of.
      topology: chips that are not here, such as v5e:16x16; minutes of compiling each.
      topology_dtype: of the computation on those; CPU devices compute in float32.
    """

    size: Size = "n"
    p2: bool = True
    image_size: tuple[int, int] = (640, 640)
    images: int = 8
    max_boxes: int = 300
    split: str = "nothing"
    devices: tuple[int, ...] = (1, 2, 4, 8)
    chip: str = "v5e"
    topology: tuple[str, ...] = ()
    topology_dtype: str = "bfloat16"

    def experiment(self, devices: int, dtype: str) -> Experiment:
        """Trains UGS with so many images on each device."""
        return Experiment(
            name="scaling",
            data=TinyScenes(),
            network=Network(size=self.size, p2=self.p2, dtype=dtype),  # type: ignore[arg-type]
            loader=LoaderOptions(
                image_size=self.image_size, batch_size=self.images * devices, max_boxes=self.max_boxes
            ),
            parallel=Parallel(split=self.split),  # type: ignore[arg-type]
        )


def main(settings: Settings) -> None:
    """Compiles, prints a table and one line of JSON."""
    chip = HARDWARE[settings.chip]
    with Console(stderr=True).status("compiling"):
        found = {count: simulated(settings, device_mesh(count)) for count in settings.devices}
        rows = [
            row(f"{count} simulated", count, each, found[settings.devices[0]], chip) for count, each in found.items()
        ]
        rows += [planned(settings, name) for name in settings.topology]
    print_table(rows)
    result = {"benchmark": "data_scaling", "chip": chip.name, "images_per_device": settings.images, "rows": rows}
    print(json.dumps(result | {"efficiency": rows[-1]["efficiency"], "jax": jax.__version__}))


def simulated(settings: Settings, mesh: Mesh) -> Footprint:
    """What the step takes of each of the mesh's CPU devices."""
    lowered, _ = program_of(settings.experiment(mesh.size, "float32"), mesh, classes=10)
    return measure(lowered, options=_QUICKLY)


def row(name: str, count: int, found: Footprint, alone: Footprint, chip: Hardware) -> dict[str, object]:
    """Figures of one number of devices, on a chip that computes at its peak in bfloat16."""
    return figures(name, count, found, found.flops / alone.flops, alone.flops / chip.bfloat16, chip)


def planned(settings: Settings, name: str) -> dict[str, object]:
    """Figures of chips that are not here."""
    topology = parse_topology(name)
    experiment = settings.experiment(topology.chips, settings.topology_dtype)
    plan = plan_training(experiment, topology, classes=10)
    if plan.roofline is None:
        raise ValueError(f"--topology {name}: {settings.images} images do not fit a chip; try fewer, --images N")
    seconds = max(plan.roofline.compute, plan.roofline.memory)
    return figures(name, plan.chips, plan.footprint, None, seconds, plan.hardware)


def figures(
    name: str, count: int, found: Footprint, work: float | None, seconds: float, chip: Hardware
) -> dict[str, object]:
    """One row of the table; `seconds` is what a device takes by itself."""
    collectives = found.collectives or {}
    sent = traffic(collectives, count)
    return {
        "devices": name,
        "work": None if work is None else round(work, 4),
        "operations": sum(kind.operations for kind in collectives.values()),
        "sent_bytes": sent,
        "alone_ms": float(f"{1e3 * seconds:.4g}"),
        "sent_ms": float(f"{1e3 * sent / chip.interconnect:.4g}"),
        "efficiency": round(seconds / ((work or 1.0) * seconds + sent / chip.interconnect), 4),
    }


def print_table(rows: list[dict[str, object]]) -> None:
    """The rows, on standard output."""
    table = Table(*rows[0])
    for each in rows:
        table.add_row(*("" if value is None else str(value) for value in each.values()))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
