"""The trainer's step compiled for devices that need not be there, and what the compiler says of it."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from data_pipeline import Batch, LoaderOptions
from data_pipeline.rows import padding_row
from ugs_jax.atomic import write_atomically
from ugs_jax.detectors import TrainableDetector
from ugs_jax.detectors.architecture import AnchorSizes
from ugs_jax.experiment.config import Experiment, detector_with
from ugs_jax.objectives import FitsToTargets
from ugs_jax.planning.accesses import read_accesses
from ugs_jax.planning.collectives import Collective, read_collectives
from ugs_jax.runs.sharding import batch_sharding, device_mesh
from ugs_jax.runs.state import TrainState
from ugs_jax.training.step import build_program

_COMPILERS = ("jaxlib", "libtpu", "jax-cuda12-plugin", "jax-cuda13-plugin")
_SIZES = np.geomspace(4, 512, 64)[:, None] * np.ones(2)
"""Sides of boxes that anchors are fitted to in place of those of the data set, px."""
DetectorOf = Callable[[Experiment, AnchorSizes, int], TrainableDetector]


@dataclass(frozen=True)
class Footprint:
    """What a compiled step takes of one device.

    Attributes:
      fits: whether the compiler could place it in the device's memory.
      peak: bytes of memory that all of it takes; of a program that does not fit, what it needs, if the compiler says.
      arguments: bytes of the state and the batch.
      outputs: bytes of the new state and the metrics.
      aliased: bytes of outputs that take the place of arguments.
      temporaries: bytes of everything between: activations, gradients, buffers of communication.
      code: bytes of the program.
      flops: operations on numbers, a step; 0 where the compiler does not count them.
      accessed: bytes that its operations read and write, a step.
      collectives: communication, a step.
    """

    fits: bool
    peak: int | None
    arguments: int = 0
    outputs: int = 0
    aliased: int = 0
    temporaries: int = 0
    code: int = 0
    flops: float = 0.0
    accessed: float = 0.0
    collectives: dict[str, Collective] | None = None


def program_of(
    experiment: Experiment, mesh: Mesh, classes: int, detector_of: DetectorOf = detector_with
) -> tuple[jax.stages.Lowered, dict[str, int]]:
    """The training step for a mesh, not compiled yet, and the bytes on one device of what goes into it, by name.

    Args:
      experiment: its data are not opened. Anchors and grids that would be fitted to them are numbers in the program,
        so that others do in their place.
      mesh: from `device_mesh`; its devices need not be there.
      classes: number of classes.
      detector_of: makes the detector.
    """
    anchors = experiment.network.fit_anchors(
        _SIZES, ratio_limit=experiment.loss_weights.ratio_limit, seed=experiment.seed
    )
    localization = experiment.localization
    if isinstance(localization, FitsToTargets):
        experiment = replace(experiment, localization=localization.fit(np.linspace(-1, 1, 101)[:, None] * np.ones(4)))
    program = build_program(experiment, detector_of(experiment, anchors, classes), mesh, steps_per_epoch=1000)
    state = _placed(program.shapes, program.shardings)
    batch = _placed(batch_shapes(experiment.loader), batch_sharding(mesh))
    lowered = cast("Any", program.step).lower(state, batch)
    return lowered, {**_parts(state), "batch": _device_bytes(batch)}


def count_flops(experiment: Experiment, classes: int, detector_of: DetectorOf = detector_with) -> float:
    """Operations on numbers of a whole step before any compiler has simplified it; arguments as in `program_of`."""
    lowered, _ = program_of(experiment, device_mesh(jax.devices("cpu")[:1]), classes, detector_of)
    cost: Any = lowered.cost_analysis()
    return cost["flops"]


def batch_shapes(options: LoaderOptions) -> Batch:
    """Shapes and types of a batch of the loader."""
    row = padding_row(options.image_size, options.capacity).batch
    arrays: Any = (jax.ShapeDtypeStruct((options.batch_size, *array.shape), array.dtype) for array in row)
    return Batch(*arrays)


def measure(
    lowered: jax.stages.Lowered,
    devices: str = "",
    cache: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Footprint:
    """Compile a step and read what it takes; a step that is too large is an answer, not an error.

    Args:
      lowered: from `program_of`.
      devices: what it is for, with `cache`: programs for unlike devices can have the same text.
      cache: folder of answers to the same question; None asks the compiler every time.
      options: of the compiler.
    """
    file = None if cache is None else cache / f"{_key(lowered, devices, options)}.json"
    known = None if file is None else _recalled(file)
    if known is not None:
        return known
    try:
        found = read_footprint(lowered.compile(dict(options or {})))
    except jax.errors.JaxRuntimeError as error:
        found = read_refusal(error)
    if file is not None:
        write_atomically(file, json.dumps(asdict(found)).encode())
    return found


def read_footprint(compiled: jax.stages.Compiled) -> Footprint:
    """What a compiled program takes of one device."""
    memory: Any = compiled.memory_analysis()
    cost: Any = compiled.cost_analysis() or {}  # None for GPUs that are not here
    text = compiled.as_text() or ""
    arguments, outputs = memory.argument_size_in_bytes, memory.output_size_in_bytes
    aliased, temporaries = memory.alias_size_in_bytes, memory.temp_size_in_bytes
    code = memory.generated_code_size_in_bytes
    return Footprint(
        fits=True,
        peak=arguments + outputs - aliased + temporaries + code,
        arguments=arguments,
        outputs=outputs,
        aliased=aliased,
        temporaries=temporaries,
        code=code,
        flops=cost.get("flops", 0.0),
        accessed=cost["bytes accessed"] if "bytes accessed" in cost else read_accesses(text),
        collectives=read_collectives(text),
    )


# Two forms: "Used 20.1G of 15.75G hbm", "total memory required for HLO temporaries (135.14G) exceeds available HBM".
_TOO_LARGE = re.compile(r"[Rr]an out of memory (?:in memory space hbm|on HBM)")
_SIZE = re.compile(r"(?:[Uu]sed |HLO \w+ \()([\d.]+)([KMGT]?)")


def read_refusal(error: jax.errors.JaxRuntimeError) -> Footprint:
    """The footprint of a program that the compiler found too large for the memory.

    Raises:
      JaxRuntimeError: it was refused for another reason.
    """
    if not _TOO_LARGE.search(str(error)):
        raise error
    size = _SIZE.search(str(error))
    return Footprint(False, None if size is None else round(float(size[1]) * 1024 ** " KMGT".index(size[2] or " ")))


def _key(lowered: jax.stages.Lowered, devices: str, options: Mapping[str, Any] | None) -> str:
    """Says which program, for which devices, by which compiler and how."""
    versions = [jax.__version__, *(version(name) for name in _COMPILERS if find_spec(name.replace("-", "_")))]
    return hashlib.sha256("\n".join([devices, repr(options or ""), *versions, lowered.as_text()]).encode()).hexdigest()[
        :32
    ]


def _recalled(file: Path) -> Footprint | None:
    """What was kept; None if there is nothing, or something that another version or a full disk has left."""
    try:
        found = Footprint(**json.loads(file.read_text()))
        sent = found.collectives and {kind: Collective(*pair) for kind, pair in found.collectives.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return replace(found, collectives=sent)


def _placed(shapes: Any, shardings: Any) -> Any:
    place = lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)  # noqa: E731
    return jax.tree.map(place, shapes, shardings)


def _parts(state: TrainState) -> dict[str, int]:
    return {
        "parameters": _device_bytes((state.params, state.stats)),
        "optimizer state": _device_bytes(state.opt_state),
        "averages": _device_bytes((state.ema_params, state.ema_stats)),
    }


def _device_bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)
