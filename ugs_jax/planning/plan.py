"""Plan for training an experiment on chips that are not attached: memory, work, time, largest batch, chip-hours."""

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

EFFICIENCY = 0.4  # share of the roofline that tuned training programs reach; ours was not measured on such chips

_OFFERED = 0.97  # share of the memory, used for guesses only: the compiler for v5e offers 15.75 of 16 GiB


class Roofline(NamedTuple):
    """Seconds of a step if a single resource were the only limit and ran at its peak rate.

    Attributes:
      compute: Time of the matrix units.
      memory: Time of the HBM, if the operands and results of every operation went through it.
      interconnect: Time of the links, all of them used at once and without latency.
    """

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        """Time of a step: that of the slowest resource, with everything else hidden behind it."""
        return max(self)

    @property
    def limit(self) -> str:
        """Name of the slowest resource."""
        return max(zip(self, self._fields, strict=True))[1]


@dataclass(frozen=True)
class Plan:
    """Plan for training one experiment on one topology.

    Attributes:
      topology: Name of the topology.
      hardware: Specifications of a chip.
      chips: Number of chips.
      batch_size: Images in a step, over all chips.
      footprint: Resources that a step takes on one chip.
      state: Bytes of the inputs of a step on one chip, by name. They are part of the arguments of `footprint`.
      roofline: Time of a step by resource; None if the step does not fit.
      steps: Number of steps of the whole schedule; None if the number of training images is unknown.
      search: Result of the search for the largest batch; None if it was not searched for.
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
        """True if the step fits in the share of the memory that JAX reserves."""
        return fits(self.footprint, self.hardware)

    @property
    def contents(self) -> dict[str, int]:
        """Contents of the memory of a chip, bytes by name. For a step that does not fit, only its inputs are known."""
        footprint, state = self.footprint, self.state
        return {
            **state,
            "padding": max(footprint.arguments - sum(state.values()), 0),
            "temporaries": footprint.temporaries,
            "outputs": footprint.outputs - footprint.aliased,
            "program": footprint.code,
        }

    def chip_hours(self, efficiency: float = 1.0) -> float | None:
        """Return the chip-hours of all steps, without evaluation and without waiting for data.

        The result is None if the number of steps is unknown or the step does not fit.

        Args:
          efficiency: Share of the roofline that is reached.
        """
        if self.steps is None or self.roofline is None:
            return None
        return self.chips * self.steps * self.roofline.seconds / efficiency / 3600

    def json(self) -> dict[str, Any]:
        """Return plain values for `json.dumps`, in bytes and seconds.

        Values are for one chip if the name says so, and for all chips otherwise.
        """
        footprint, works = self.footprint, self.roofline is not None
        sent = sum(kind.bytes for kind in (footprint.collectives or {}).values())
        return {
            "fits": self.fits,
            "hbm_bytes_per_chip": self.hardware.memory,
            "peak_bytes_per_chip": footprint.peak,
            "flops_per_step": footprint.flops * self.chips if works else None,
            "collective_bytes_per_step": sent * self.chips if works else None,
            "largest_batch": None if self.search is None else self.search.largest,
            "batch_too_large": None if self.search is None else self.search.too_large,
            "batch_size": self.batch_size,
            "chips": self.chips,
            "bytes_per_chip": self.contents,
            "accessed_bytes_per_chip": footprint.accessed if works else None,
            "collectives_per_chip": {name: kind._asdict() for name, kind in (footprint.collectives or {}).items()},
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
    """Compile the training step of an experiment for a topology, and return what it needs.

    No accelerator has to be attached.

    Args:
      experiment: Experiment to be planned. Its data set is not opened.
      topology: Topology from `parse_topology`.
      classes: Number of classes.
      images: Number of training images, for the length of the schedule.
      compiles: Number of compilations to search for the largest batch, beside the batch of the config. 0 skips the
        search.
      quick: Compile for TPUs with the least effort, about three times as fast. Memory and bytes then differ from those
        of the program that training compiles.
      cache: Folder of compiler results from earlier calls; None compiles every time.
      mesh: Other devices to compile for. The result is still judged by the hardware of `topology`.
      detector_of: Function that builds the detector.
      tell: Function that receives a message before each compilation.

    Raises:
      ValueError: The layout does not exist, its compiler is not installed, or it cannot split the batch or the images.
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
        compiled = measure(lowered, devices, cache, hardware.compiler_options(quick=quick))
        return repeated(replace(compiled, fits=fits(compiled, hardware)), experiment.accumulate)

    footprint = footprint_of(batch)
    if footprint.fits and not footprint.flops:
        flops = experiment.accumulate * count_flops(experiment, classes, detector_of)
        footprint = replace(footprint, flops=flops / mesh.size)
    search = None
    if compiles:
        limit = round(_OFFERED * hardware.memory * hardware.usable)
        unit = mesh.shape[DATA] * experiment.accumulate
        search = largest_batch(footprint_of, {batch: footprint}, unit, limit, compiles)
    dtype = getattr(experiment.network, "dtype", "float32")
    return Plan(
        topology=topology.name,
        hardware=hardware,
        chips=mesh.size,
        batch_size=batch,
        footprint=footprint,
        state=state[batch],
        roofline=roofline_of(footprint, hardware, mesh.size, dtype) if footprint.fits else None,
        steps=None if images is None else experiment.epochs * max(1, images // batch),
        search=search,
    )


def fits(footprint: Footprint, hardware: Hardware) -> bool:
    """Return True if the compiler could place a program, within the share of the memory that JAX reserves."""
    return footprint.fits and footprint.peak is not None and footprint.peak <= hardware.memory * hardware.usable


def repeated(footprint: Footprint, parts: int) -> Footprint:
    """Return the footprint of a step that computes its batch in several parts, one after the other.

    The compiler counts the loop over the parts once, so its counts are multiplied by the number of parts. The update
    of the optimizer, which runs once, is then counted too often. It is small compared with the gradient.

    Args:
      footprint: Footprint as the compiler counts it.
      parts: Number of parts.
    """
    if parts == 1:
        return footprint
    sent = {
        name: Collective(parts * kind.operations, parts * kind.bytes)
        for name, kind in (footprint.collectives or {}).items()
    }
    return replace(footprint, flops=parts * footprint.flops, accessed=parts * footprint.accessed, collectives=sent)


def roofline_of(footprint: Footprint, hardware: Hardware, chips: int, dtype: str) -> Roofline:
    """Return the time of a step by resource, each at its peak rate.

    Args:
      footprint: Work of a step on one chip.
      hardware: Specifications of the chip.
      chips: Number of chips.
      dtype: Type of the computation, `float32` or `bfloat16`.

    References:
      Williams et al., Roofline: An Insightful Visual Performance Model for Multicore Architectures, CACM 2009; here
      with the links as a third roof.
    """
    peak = hardware.bfloat16 if dtype == "bfloat16" else hardware.float32
    sent = traffic(footprint.collectives or {}, chips)
    return Roofline(footprint.flops / peak, footprint.accessed / hardware.bandwidth, sent / hardware.interconnect)
