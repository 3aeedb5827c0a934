"""Scaling of training with the number of devices, computed from compiled programs that are not run.

    python -m experiments.benchmarks.data_scaling
    python -m experiments.benchmarks.data_scaling --devices 1 --topology v5e:16x16    # also for chips not attached

The command compiles the step of `ugs train` for 1, 2, 4 and 8 simulated CPU devices, with the same number of images on
each (weak scaling). It then reads from the programs:

- `work`: FLOPs of a device over those of one device alone; 1 if nothing is computed twice;
- `sent_bytes`: bytes that a device sends along a ring;
- `efficiency`: the resulting efficiency on `--chip`, t₁ / (work · t₁ + t_sent). Here t₁ is the time for the FLOPs of
  one device at the peak rate of the chip, and t_sent is the time for the bytes at the peak rate of its links. No
  communication is assumed to be hidden behind the computation, and no program runs at the peak rate, so that the
  estimate is rather low. Latency is left out, however. For a topology, t₁ is the time of the limiting resource of its
  roofline, computation or HBM.

The last line is JSON.
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
from ugs_jax.detectors.network_options import Size  # noqa: E402
from ugs_jax.experiment import Experiment, Network, Parallel  # noqa: E402
from ugs_jax.planning import plan_training  # noqa: E402
from ugs_jax.planning.collectives import traffic  # noqa: E402
from ugs_jax.planning.hardware import HARDWARE, Hardware, parse_topology  # noqa: E402
from ugs_jax.planning.program import Footprint, measure, program_of  # noqa: E402
from ugs_jax.runs import device_mesh  # noqa: E402

_QUICKLY = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
}  # affects the machine code, not the HLO


@dataclass(frozen=True)
class Settings:
    """Programs to compile.

    Attributes:
      size: Size of the YOLOv5 network.
      p2: Add the level with stride 4.
      image_size: Height and width, px.
      images: Number of images on each device.
      max_boxes: Number of boxes that each image is padded to.
      split: Part of the training state that is split; see `Parallel`.
      devices: Numbers of simulated devices. The others are compared with the first.
      chip: Chip whose rates are used for the efficiency.
      topology: Topologies of chips that are not attached, such as v5e:16x16. Each takes minutes to compile.
      topology_dtype: Type of the computation on the topologies. CPU devices compute in float32.
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
        """Return the experiment that trains UGS with `images` images on each device."""
        return Experiment(
            name="scaling",
            data=TinyScenes(),
            network=Network(size=self.size, p2=self.p2, dtype=dtype),  # type: ignore[arg-type]
            loader=LoaderOptions(
                image_size=self.image_size, batch_size=self.images * devices, max_boxes=self.max_boxes
            ),
            parallel=Parallel(shard=self.split),  # type: ignore[arg-type]
        )


def main(settings: Settings) -> None:
    """Compile, print a table, and print one line of JSON at the end."""
    chip = HARDWARE[settings.chip]
    with Console(stderr=True).status("compiling"):
        footprints = {count: simulated(settings, device_mesh(count)) for count in settings.devices}
        alone = footprints[settings.devices[0]]
        rows = [row(f"{count} simulated", count, each, alone, chip) for count, each in footprints.items()]
        rows += [planned(settings, name) for name in settings.topology]
    print_table(rows)
    result = {"benchmark": "data_scaling", "chip": chip.name, "images_per_device": settings.images, "rows": rows}
    print(json.dumps(result | {"efficiency": rows[-1]["efficiency"], "jax": jax.__version__}))


def simulated(settings: Settings, mesh: Mesh) -> Footprint:
    """Return the footprint of the step on each CPU device of the mesh."""
    lowered, _ = program_of(settings.experiment(mesh.size, "float32"), mesh, classes=10)
    return measure(lowered, options=_QUICKLY)


def row(name: str, count: int, footprint: Footprint, alone: Footprint, chip: Hardware) -> dict[str, object]:
    """Return the figures of one number of devices, on a chip that computes at its peak rate in bfloat16."""
    return figures(name, count, footprint, footprint.flops / alone.flops, alone.flops / chip.bfloat16, chip)


def planned(settings: Settings, name: str) -> dict[str, object]:
    """Return the figures of a topology."""
    topology = parse_topology(name)
    experiment = settings.experiment(topology.chips, settings.topology_dtype)
    plan = plan_training(experiment, topology, classes=10)
    if plan.roofline is None:
        raise ValueError(f"--topology {name}: {settings.images} images do not fit a chip; try fewer, --images N")
    seconds = max(plan.roofline.compute, plan.roofline.memory)
    return figures(name, plan.chips, plan.footprint, None, seconds, plan.hardware)


def figures(
    name: str, count: int, footprint: Footprint, work: float | None, seconds: float, chip: Hardware
) -> dict[str, object]:
    """Return one row of the table. `seconds` is the time of a step on one device alone."""
    collectives = footprint.collectives or {}
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
    """Print the rows as a table."""
    table = Table(*rows[0])
    for each in rows:
        table.add_row(*("" if value is None else str(value) for value in each.values()))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
