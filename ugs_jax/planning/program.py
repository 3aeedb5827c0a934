"""The training step compiled for devices that need not be attached, and the resources that the compiler reports."""

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
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from data_pipeline import Batch, LoaderOptions
from data_pipeline.rows import padding_row
from ugs_jax.atomic import write_atomically
from ugs_jax.boxes import Anchors
from ugs_jax.detectors import TrainableDetector
from ugs_jax.detectors.levels import AnchorSizes
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
    """Resources that a compiled step takes on one device.

    Attributes:
      fits: True if the compiler could place the step in the memory of the device.
      peak: Total memory, bytes. For a program that does not fit: the memory it needs, or None if the compiler does not
        report it.
      arguments: Size of the state and the batch, bytes.
      outputs: Size of the new state and the metrics, bytes.
      aliased: Size of the outputs that reuse the memory of arguments, bytes.
      temporaries: Size of everything in between, bytes: activations, gradients, communication buffers.
      code: Size of the program, bytes.
      flops: Floating-point operations of a step; 0 if the compiler does not count them.
      accessed: Bytes that the operations of a step read and write.
      collectives: Communication of a step, by kind.
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
    """Return the lowered training step for a mesh, and the bytes of its inputs on one device by name.

    Args:
      experiment: Experiment to be planned. Its data set is not opened. Anchors and grids that would be fitted to the
        data are constants of the program, so any values give the same footprint.
      mesh: Mesh from `device_mesh`. Its devices need not be attached.
      classes: Number of classes.
      detector_of: Function that builds the detector.
    """
    anchors = experiment.network.fit_anchors(
        _SIZES, anchor_ratio_threshold=experiment.loss_weights.anchor_ratio_threshold, seed=experiment.seed
    )
    localization = experiment.localization
    if isinstance(localization, FitsToTargets):
        sides = np.geomspace(4, 64, 101)[:, None] * np.ones(2)
        around = Anchors(*(jnp.full(sides.shape, value) for value in (0.0, 16.0, 8.0)))
        fitted = localization.fit(around, np.concatenate([-sides / 3, sides], axis=1))
        experiment = replace(experiment, localization=fitted)
    if experiment.loss_weights.class_weights is not None:  # constants of the program, too
        experiment = replace(experiment, loss_weights=replace(experiment.loss_weights, class_weights=(1.0,) * classes))
    program = build_program(experiment, detector_of(experiment, anchors, classes), mesh, steps_per_epoch=1000)
    state = _placed(program.shapes, program.shardings)
    batch = _placed(batch_shapes(experiment.loader), batch_sharding(mesh))
    lowered = cast("Any", program.step).lower(state, batch)
    return lowered, {**_parts(state), "batch": _device_bytes(batch)}


def count_flops(experiment: Experiment, classes: int, detector_of: DetectorOf = detector_with) -> float:
    """Return the floating-point operations of a whole step before compilation. Arguments are those of `program_of`."""
    lowered, _ = program_of(experiment, device_mesh(jax.devices("cpu")[:1]), classes, detector_of)
    cost: Any = lowered.cost_analysis()
    return cost["flops"]


def batch_shapes(options: LoaderOptions) -> Batch:
    """Return shapes and types of a training batch of the loader; of several sizes, those of the largest."""
    row = padding_row(max(options.training_sizes, key=math.prod), options.capacity).batch
    arrays: Any = (jax.ShapeDtypeStruct((options.batch_size, *array.shape), array.dtype) for array in row)
    return Batch(*arrays)


def measure(
    lowered: jax.stages.Lowered,
    devices: str = "",
    cache: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Footprint:
    """Compile a step and return its footprint. A step that does not fit gives a footprint too, not an error.

    Args:
      lowered: Lowered step from `program_of`.
      devices: Name of the devices. It is part of the cache key, because programs for different devices can have the
        same text.
      cache: Folder of earlier results; None compiles every time.
      options: Compiler options.
    """
    file = None if cache is None else cache / f"{_key(lowered, devices, options)}.json"
    known = None if file is None else _read_cached(file)
    if known is not None:
        return known
    try:
        footprint = read_footprint(lowered.compile(dict(options or {})))
    except jax.errors.JaxRuntimeError as error:
        footprint = read_refusal(error)
    if file is not None:
        write_atomically(file, json.dumps(asdict(footprint)).encode())
    return footprint


def read_footprint(compiled: jax.stages.Compiled) -> Footprint:
    """Return the footprint of a compiled program on one device."""
    memory: Any = compiled.memory_analysis()
    cost: Any = compiled.cost_analysis() or {}  # None for GPUs that are not attached
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


# Messages: "Used 20.1G of 15.75G hbm", "total memory required for HLO temporaries (135.14G) exceeds available HBM".
_TOO_LARGE = re.compile(r"[Rr]an out of memory (?:in memory space hbm|on HBM)")
_SIZE = re.compile(r"(?:[Uu]sed |HLO \w+ \()([\d.]+)([KMGT]?)")


def read_refusal(error: jax.errors.JaxRuntimeError) -> Footprint:
    """Return the footprint of a program that the compiler refused because it does not fit in memory.

    Raises:
      JaxRuntimeError: The compiler refused it for another reason.
    """
    if not _TOO_LARGE.search(str(error)):
        raise error
    size = _SIZE.search(str(error))
    return Footprint(False, None if size is None else round(float(size[1]) * 1024 ** " KMGT".index(size[2] or " ")))


def _key(lowered: jax.stages.Lowered, devices: str, options: Mapping[str, Any] | None) -> str:
    """Return a hash of the program, its devices, the compiler versions and the compiler options."""
    versions = [jax.__version__, *(version(name) for name in _COMPILERS if find_spec(name.replace("-", "_")))]
    return hashlib.sha256("\n".join([devices, repr(options or ""), *versions, lowered.as_text()]).encode()).hexdigest()[
        :32
    ]


def _read_cached(file: Path) -> Footprint | None:
    """Read a footprint; None if the file is missing, damaged, or written by another version."""
    try:
        footprint = Footprint(**json.loads(file.read_text()))
        sent = footprint.collectives and {kind: Collective(*pair) for kind, pair in footprint.collectives.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return replace(footprint, collectives=sent)


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
