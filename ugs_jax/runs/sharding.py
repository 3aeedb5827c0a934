"""Mesh with named axes, shardings of state and batches, and the part of every batch that a process loads.

The axis `data` splits the batch, and `spatial` splits the rows of every image. Batch statistics, every mean in the loss
and all gradients are global over the mesh. Programs are written for whole arrays, and the compiler adds the
communication, including the halos of convolutions.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import Batch, LoaderOptions
from ugs_jax.experiment.parallel import Shard
from ugs_jax.runs.state import TrainState

DATA, SPATIAL = "data", "spatial"
_COARSEST_STRIDE = 32


def device_mesh(devices: int | Sequence[jax.Device] | None = None, spatial: int = 1) -> Mesh:
    """Return a mesh of devices with the axes `data` and `spatial`.

    Args:
      devices: Devices, or the number of devices to use, starting from the first; None for all devices.
      spatial: Number of devices along `spatial`. If it does not divide the number of devices, their greatest common
        divisor is used.
    """
    chosen = jax.devices()[:devices] if devices is None or isinstance(devices, int) else list(devices)
    split = math.gcd(spatial, len(chosen))
    shape = (len(chosen) // split, split)
    return jax.make_mesh(shape, (DATA, SPATIAL), axis_types=(AxisType.Auto,) * 2, devices=chosen)


def evaluation_mesh(loader: LoaderOptions, spatial: int = 1) -> Mesh:
    """Return a mesh of as many devices as the batches and images of an evaluation can be split over.

    It does not depend on the devices that the run was trained on.

    Args:
      loader: Sizes of batches and images.
      spatial: Wanted number of devices along `spatial`. The mesh has its greatest common divisor with the number of
        devices and with the image height in units of the coarsest stride.
    """
    parts, bands = evaluation_shape(loader, spatial, jax.device_count())
    return device_mesh(parts * bands, bands)


def evaluation_shape(loader: LoaderOptions, spatial: int, devices: int) -> tuple[int, int]:
    """Return the mesh shape (data, spatial) for a number of devices; see `evaluation_mesh`."""
    bands = math.gcd(spatial, devices, loader.image_size[0] // _COARSEST_STRIDE)
    return math.gcd(loader.batch_size, devices // bands), bands


def check_sizes(loader: LoaderOptions, mesh: Mesh | AbstractMesh, accumulate: int = 1) -> None:
    """Check that the mesh can split batches and images evenly.

    Args:
      loader: Sizes of batches and images.
      mesh: Mesh from `device_mesh`.
      accumulate: Number of parts of a batch that are computed one after the other, each on all devices.

    Raises:
      ValueError: The batch size or the image height cannot be split. The message names the nearest size that can.
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
    # Every feature map has to split evenly. If one does not, XLA (jaxlib 0.10.2) still computes the right outputs, but
    # wrong gradients of the kernels of strided convolutions.
    unit = _COARSEST_STRIDE * bands
    sizes = {"image_size": loader.image_size}
    sizes |= {f"image_sizes[{i}]": size for i, size in enumerate(loader.image_sizes)}
    for name, (height, _) in sizes.items():
        if bands > 1 and height % unit:
            raise ValueError(
                f"loader.{name}: expected a height that is a multiple of {unit}, the coarsest stride "
                f"({_COARSEST_STRIDE}) times the {bands} devices that share an image (parallel.spatial), got "
                f"{height}; try {-(-height // unit) * unit} or a smaller parallel.spatial"
            )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding that keeps a full copy of an array on every device."""
    return NamedSharding(mesh, P())


def image_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of images [B, H, W, 3]: the batch is split along `data`, rows along `spatial`."""
    return NamedSharding(mesh, P(DATA, SPATIAL))


def batch_sharding(mesh: Mesh) -> Batch:
    """Return the sharding of every array of a batch: all are split along `data`, images also along `spatial`."""
    rows: Any = NamedSharding(mesh, P(DATA))
    return Batch(*(rows for _ in Batch._fields))._replace(images=image_sharding(mesh))  # type: ignore[arg-type]


def state_sharding(state: TrainState, mesh: Mesh, shard: Shard = "nothing", least: int = 1 << 14) -> TrainState:
    """Return the sharding of every array of a training state.

    Args:
      state: Arrays or their shapes.
      mesh: Mesh from `device_mesh`.
      shard: Parts of the state that are split along `data`; see `Parallel`.
      least: Least number of elements of an array that is split. Splitting smaller arrays costs more than it saves.
    """
    parts = mesh.shape[DATA]

    def parted(leaf: Any) -> NamedSharding:
        axes = [axis for axis, side in enumerate(leaf.shape) if side % parts == 0]
        if not axes or math.prod(leaf.shape) < least:
            return replicated(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, P(*(DATA if axis == longest else None for axis in range(leaf.ndim))))

    whole = jax.tree.map(lambda _: replicated(mesh), state)
    if shard == "nothing":
        return whole
    names = ("opt_state", "ema_params") + (("params",) if shard == "state" else ())
    return whole._replace(**{name: jax.tree.map(parted, getattr(state, name)) for name in names})


def data_share(mesh: Mesh) -> tuple[int, int]:
    """Return the index of the part of every batch that this process loads, and the number of parts; see `share_of`."""
    owners = np.vectorize(lambda device: device.process_index, otypes=[int])(mesh.devices)
    return share_of(jax.process_index(), owners)


def share_of(process: int, owners: np.ndarray) -> tuple[int, int]:
    """Return the index of the part of every batch that a process loads, and the number of parts.

    Processes load the same part if their devices hold different bands of the same images.

    Args:
      process: Index of the process.
      owners: Process index of every device of the mesh, int [data, spatial].

    Raises:
      ValueError: The parts of two processes overlap without being equal, or have different sizes.
    """
    held = {owner: tuple(np.flatnonzero((owners == owner).any(1)).tolist()) for owner in np.unique(owners).tolist()}
    shares = sorted(set(held.values()))
    if sum(map(len, shares)) != len(owners) or len(set(map(len, shares))) != 1:
        raise ValueError(
            f"parallel.spatial={owners.shape[1]}: expected processes that hold the same number of images, got images "
            f"{', '.join(map(str, shares))} of {len(owners)}; use a spatial that divides the number of devices "
            "of a process, or is a multiple of it"
        )
    return shares.index(held[process]), len(shares)
