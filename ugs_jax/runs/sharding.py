"""Where state and batches live: one mesh with named axes, and which part of every batch is a process's own.

`data` splits the batch, `spatial` the rows of every image. Batch statistics, every mean in the loss and all gradients
are global over the mesh: the programs are written for whole arrays, and the compiler adds the communication, the halos
of convolutions among it.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import Batch, LoaderOptions
from ugs_jax.experiment.parallel import Split
from ugs_jax.runs.state import TrainState

DATA, SPATIAL = "data", "spatial"
_COARSEST_STRIDE = 32


def device_mesh(devices: int | Sequence[jax.Device] | None = None, spatial: int = 1) -> Mesh:
    """All devices, the first so many, or given ones, along the axes `data` and `spatial`.

    Args:
      devices: which.
      spatial: devices along `spatial`; their greatest common divisor if that does not divide their number.
    """
    chosen = jax.devices()[:devices] if devices is None or isinstance(devices, int) else list(devices)
    split = math.gcd(spatial, len(chosen))
    shape = (len(chosen) // split, split)
    return jax.make_mesh(shape, (DATA, SPATIAL), axis_types=(AxisType.Auto,) * 2, devices=chosen)


def evaluation_mesh(loader: LoaderOptions, spatial: int = 1) -> Mesh:
    """Of as many devices as batches and images of an evaluation can be split over, wherever the run was trained.

    Args:
      loader: sizes of batches and images.
      spatial: devices along `spatial`; their greatest common divisor with the devices and rows there are.
    """
    parts, bands = evaluation_shape(loader, spatial, jax.device_count())
    return device_mesh(parts * bands, bands)


def evaluation_shape(loader: LoaderOptions, spatial: int, devices: int) -> tuple[int, int]:
    """Devices along `data` and along `spatial`, of so many; see `evaluation_mesh`."""
    bands = math.gcd(spatial, devices, loader.image_size[0] // _COARSEST_STRIDE)
    return math.gcd(loader.batch_size, devices // bands), bands


def check_sizes(loader: LoaderOptions, mesh: Mesh | AbstractMesh, accumulate: int = 1) -> None:
    """Refuse batches and images that the mesh cannot split evenly.

    Args:
      loader: sizes of batches and images.
      mesh: from `device_mesh`.
      accumulate: parts of a batch that are computed one after the other, each on all devices.

    Raises:
      ValueError: what does not divide, and the nearest that does.
    """
    parts, bands = mesh.shape[DATA], mesh.shape[SPATIAL]
    if loader.batch_size % (parts * accumulate):
        near = -(-loader.batch_size // (parts * accumulate)) * parts * accumulate
        times = f" times accumulate {accumulate}" if accumulate > 1 else ""
        raise ValueError(
            f"loader.batch_size: expected a multiple of the {parts} devices that split a batch ({mesh.size} devices, "
            f"parallel.spatial {bands}){times}, got {loader.batch_size}; try {near}, "
            f"{'a smaller accumulate, ' if accumulate > 1 else ''}or split images with a larger parallel.spatial"
        )
    # Every feature map has to split evenly. Where one does not, XLA (jaxlib 0.10.2) still computes the right outputs,
    # but wrong gradients of the kernels of strided convolutions.
    unit = _COARSEST_STRIDE * bands
    if bands > 1 and loader.image_size[0] % unit:
        raise ValueError(
            f"loader.image_size: expected a height that is a multiple of {unit}, the coarsest stride "
            f"({_COARSEST_STRIDE}) times the {bands} devices that share an image (parallel.spatial), got "
            f"{loader.image_size[0]}; try {-(-loader.image_size[0] // unit) * unit} or a smaller parallel.spatial"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole of an array on every device."""
    return NamedSharding(mesh, P())


def image_sharding(mesh: Mesh) -> NamedSharding:
    """Images [B, H, W, 3]: the batch split along `data`, rows along `spatial`."""
    return NamedSharding(mesh, P(DATA, SPATIAL))


def batch_sharding(mesh: Mesh) -> Batch:
    """The sharding of every array of a batch: all along `data`, images along `spatial` too."""
    rows: Any = NamedSharding(mesh, P(DATA))
    return Batch(*(rows for _ in Batch._fields))._replace(images=image_sharding(mesh))  # type: ignore[arg-type]


def state_sharding(state: TrainState, mesh: Mesh, split: Split = "nothing", least: int = 1 << 14) -> TrainState:
    """The sharding of every array of a training state.

    Args:
      state: arrays or their shapes.
      mesh: from `device_mesh`.
      split: see `Parallel`.
      least: arrays of fewer elements stay whole: parting them costs more than it saves.
    """
    parts = mesh.shape[DATA]

    def parted(leaf: Any) -> NamedSharding:
        axes = [axis for axis, side in enumerate(leaf.shape) if side % parts == 0]
        if not axes or math.prod(leaf.shape) < least:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(DATA if axis == longest else None for axis in range(leaf.ndim))))

    whole = jax.tree.map(lambda _: replicated(mesh), state)
    if split == "nothing":
        return whole
    names = ("opt_state", "ema_params") + (("params",) if split == "state" else ())
    return whole._replace(**{name: jax.tree.map(parted, getattr(state, name)) for name in names})


def data_share(mesh: Mesh) -> tuple[int, int]:
    """Which part of the rows of every batch this process loads, and how many parts there are; see `share_of`."""
    owners = np.vectorize(lambda device: device.process_index, otypes=[int])(mesh.devices)
    return share_of(jax.process_index(), owners)


def share_of(process: int, owners: np.ndarray) -> tuple[int, int]:
    """Which part of the rows of every batch a process loads, and how many parts there are.

    Processes whose devices hold the same rows, and differ in the bands of the images they hold, load the same part.

    Args:
      process: number of the process.
      owners: int [data, spatial], the process of every device of the mesh.

    Raises:
      ValueError: processes whose parts overlap without being equal, or are not equally large.
    """
    held = {owner: tuple(np.flatnonzero((owners == owner).any(1)).tolist()) for owner in np.unique(owners).tolist()}
    shares = sorted(set(held.values()))
    if sum(map(len, shares)) != len(owners) or len(set(map(len, shares))) != 1:
        raise ValueError(
            f"parallel.spatial={owners.shape[1]}: expected processes that hold the same number of images, got images "
            f"{', '.join(map(str, shares))} of {len(owners)}; use a spatial that divides the devices of a process, or "
            "is a multiple of them"
        )
    return shares.index(held[process]), len(shares)
