"""What training an experiment takes on chips that are not here: memory, work, time, the largest batch, chip-hours."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from ugs_jax.experiment.config import Experiment, detector_with
from ugs_jax.planning.batch_search import Search, largest_batch
from ugs_jax.planning.collectives import Collective, traffic
from ugs_jax.planning.hardware import Hardware, Topology, topology_devices
from ugs_jax.planning.program import DetectorOf, Footprint, count_flops, measure, program_of
from ugs_jax.runs.sharding import DATA, check_sizes, device_mesh

EFFICIENCY = 0.4  # of the roofline: what tuned training programs reach; ours has not been timed on such chips

_OFFERED = 0.97  # of the memory, to guess with: v5e's compiler offers 15.75 of 16 GiB


class Roofline(NamedTuple):
    """Seconds a step would take if one resource were the only limit and ran at its peak.

    Attributes:
      compute: of the matrix units.
      memory: of the HBM, if every operation's operands and results went through it.
      interconnect: of the links, all of them at once, without latency.
    """

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """The step: what it waits for longest, all else hidden behind it."""
        return max(self)

    @property
    def limit(self) -> str:
        """What it waits for."""
        return max(zip(self, self._fields, strict=True))[1]


@dataclass(frozen=True)
class Plan:
    """One experiment on one topology.

    Attributes:
      topology: its name.
      hardware: of a chip.
      chips: how many.
      batch_size: images a step, over all chips.
      footprint: of a chip.
      state: bytes on a chip of what goes into a step, by name; part of the footprint's arguments.
      roofline: None if the step does not fit.
      steps: of the whole schedule; None where the number of training images is not known.
      search: for the largest batch; None if it was not looked for.
    """

    topology: str
    hardware: Hardware
    chips: int
    batch_size: int
    footprint: Footprint
    state: dict[str, int]
    roofline: Roofline | None
    steps: int | None
    search: Search | None = None

    @property
    def fits(self) -> bool:
        """Whether the compiler could place the step, and in the share of memory that JAX reserves."""
        return fits(self.footprint, self.hardware)

    @property
    def contents(self) -> dict[str, int]:
        """What fills the memory of a chip, bytes by name; of a step that does not fit, only what goes into it."""
        found, state = self.footprint, self.state
        return {
            **state,
            "padding": max(found.arguments - sum(state.values()), 0),
            "temporaries": found.temporaries,
            "outputs": found.outputs - found.aliased,
            "program": found.code,
        }

    def chip_hours(self, efficiency: float = 1.0) -> float | None:
        """All chips for all steps, without evaluation and waiting for data.

        Args:
          efficiency: share of the roofline that is reached.
        """
        if self.steps is None or self.roofline is None:
            return None
        return self.chips * self.steps * self.roofline.seconds / efficiency / 3600

    def json(self) -> dict[str, Any]:
        """Values that JSON can hold. Per chip where the name says so, over all chips otherwise; bytes and seconds."""
        found, works = self.footprint, self.roofline is not None
        sent = sum(kind.bytes for kind in (found.collectives or {}).values())
        return {
            "fits": self.fits,
            "hbm_bytes_per_chip": self.hardware.memory,
            "peak_bytes_per_chip": found.peak,
            "flops_per_step": found.flops * self.chips if works else None,
            "collective_bytes_per_step": sent * self.chips if works else None,
            "largest_batch": None if self.search is None else self.search.largest,
            "batch_too_large": None if self.search is None else self.search.too_large,
            "batch_size": self.batch_size,
            "chips": self.chips,
            "bytes_per_chip": self.contents,
            "accessed_bytes_per_chip": found.accessed if works else None,
            "collectives_per_chip": {name: kind._asdict() for name, kind in (found.collectives or {}).items()},
            "roofline_seconds": None if self.roofline is None else {**self.roofline._asdict()},
            "step_seconds": None if self.roofline is None else self.roofline.seconds,
            "limited_by": None if self.roofline is None else self.roofline.limit,
            "steps": self.steps,
            "chip_hours": self.chip_hours(),
            f"chip_hours_at_{EFFICIENCY:.0%}": self.chip_hours(EFFICIENCY),
        }


def plan_training(
    experiment: Experiment,
    topology: Topology,
    *,
    classes: int,
    images: int | None = None,
    compiles: int = 0,
    quick: bool = False,
    cache: Path | None = None,
    mesh: Mesh | None = None,
    detector_of: DetectorOf = detector_with,
    tell: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Compile the training step of an experiment for a topology, none of which has to be here.

    Args:
      experiment: its data set is not opened.
      topology: from `parse_topology`.
      classes: number of classes.
      images: number of training images, for the length of the schedule.
      compiles: how often to compile for the largest batch, beside the batch of the config; 0 does not look for it.
      quick: compile for TPUs with the least effort, about three times as fast; memory and bytes come out otherwise.
      cache: folder of the compiler's answers; None asks it every time.
      mesh: other devices to compile for, judged by the topology's hardware.
      detector_of: makes the detector.
      tell: is told what is being compiled.

    Raises:
      ValueError: no such layout, its compiler is not installed, or it cannot split the batch or the images.
    """
    if mesh is None:
        mesh = device_mesh(topology_devices(topology), experiment.parallel.spatial)
    check_sizes(experiment.loader, mesh, experiment.accumulate)
    hardware, batch = topology.hardware, experiment.loader.batch_size
    devices = f"{topology.name} {dict(mesh.shape)}"
    state: dict[int, dict[str, int]] = {}

    def footprint_of(size: int) -> Footprint:
        tell(f"{topology.name}: compiling for a batch of {size}")
        sized = replace(experiment, loader=replace(experiment.loader, batch_size=size))
        lowered, state[size] = program_of(sized, mesh, classes, detector_of)
        found = measure(lowered, devices, cache, hardware.compiler_options(quick=quick))
        return repeated(replace(found, fits=fits(found, hardware)), experiment.accumulate)

    found = footprint_of(batch)
    if found.fits and not found.flops:
        flops = experiment.accumulate * count_flops(experiment, classes, detector_of)
        found = replace(found, flops=flops / mesh.size)
    search = None
    if compiles:
        limit = round(_OFFERED * hardware.memory * hardware.usable)
        unit = mesh.shape[DATA] * experiment.accumulate
        search = largest_batch(footprint_of, {batch: found}, unit, limit, compiles)
    dtype = getattr(experiment.network, "dtype", "float32")
    return Plan(
        topology=topology.name,
        hardware=hardware,
        chips=mesh.size,
        batch_size=batch,
        footprint=found,
        state=state[batch],
        roofline=roofline_of(found, hardware, mesh.size, dtype) if found.fits else None,
        steps=None if images is None else experiment.epochs * max(1, images // batch),
        search=search,
    )


def fits(found: Footprint, hardware: Hardware) -> bool:
    """Whether the compiler could place a program, and in the share of memory that JAX reserves."""
    return found.fits and found.peak is not None and found.peak <= hardware.memory * hardware.usable


def repeated(found: Footprint, parts: int) -> Footprint:
    """The footprint of a step that computes its batch in parts: counts are of one part, and of what is done once.

    What is done once, the optimizer's update, is counted too often here: it is little beside a network's gradient.

    Args:
      found: as the compiler counts, which takes a loop for one round.
      parts: rounds.
    """
    if parts == 1:
        return found
    sent = {
        name: Collective(parts * kind.operations, parts * kind.bytes)
        for name, kind in (found.collectives or {}).items()
    }
    return replace(found, flops=parts * found.flops, accessed=parts * found.accessed, collectives=sent)


def roofline_of(found: Footprint, hardware: Hardware, chips: int, dtype: str) -> Roofline:
    """Time by resource, each at its peak; Williams et al., CACM 2009, with the links as a third roof.

    Args:
      found: what a chip has to do.
      hardware: what it can do.
      chips: how many there are.
      dtype: of the computation, `float32` or `bfloat16`.
    """
    peak = hardware.bfloat16 if dtype == "bfloat16" else hardware.float32
    sent = traffic(found.collectives or {}, chips)
    return Roofline(found.flops / peak, found.accessed / hardware.bandwidth, sent / hardware.interconnect)
