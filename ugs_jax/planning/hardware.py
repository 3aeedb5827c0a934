"""Accelerators that a step can be compiled for without having one: their specifications, and devices to compile for."""

import difflib
import importlib.util
import math
import re
from dataclasses import dataclass
from typing import Any

import jax

GiB = 1 << 30


@dataclass(frozen=True)
class Hardware:
    """Vendor specifications of one chip. All rates are peak rates.

    Attributes:
      name: Name of the chip in a topology, such as `v5e`.
      platform: Platform of the chip, `tpu` or `cuda`.
      memory: Size of the HBM, bytes.
      usable: Share of the HBM that a program may fill. On GPUs: the share that JAX reserves by default.
      bfloat16: Peak rate of the matrix units in bfloat16, without sparsity, FLOP/s.
      float32: Peak rate of float32 convolutions at JAX's default precision, FLOP/s. TPUs use one pass in bfloat16, GPUs
        use TF32.
      bandwidth: Bandwidth of the HBM, bytes/s.
      interconnect: Bandwidth of all links from a chip to its neighbours together, in one direction, bytes/s.
      source: Source of the figures.
      example: Example of a valid topology.
      cores: Number of multiprocessors of a GPU, for its compiler.
      capability: Compute capability of a GPU.
      cache: Size of the second-level cache of a GPU, bytes.
      clock: Clock rate of a GPU, GHz.
      shared: Shared memory of a multiprocessor of a GPU, bytes. A block can use 1024 bytes less.
    """

    name: str
    platform: str
    memory: int
    usable: float
    bfloat16: float
    float32: float
    bandwidth: float
    interconnect: float
    source: str
    example: str
    cores: int = 0
    capability: int = 0
    cache: int = 0
    clock: float = 0.0
    shared: int = 0

    def compiler_options(self, *, quick: bool = False) -> dict[str, bool | float]:
        """Return compiler options for compiling without such a device.

        Args:
          quick: Compile with the least effort. It has an effect on TPUs only.
        """
        if self.platform == "tpu":
            return {"exec_time_optimization_effort": -1.0, "memory_fitting_effort": -1.0} if quick else {}
        # Triton tile sizes are chosen by measuring on the GPU. Without a GPU, some matrix products find no tile size,
        # and the compiler stops with an internal error.
        return {"xla_gpu_enable_triton_gemm": False}


def _tpu(name: str, gib: int, teraflops: float, bandwidth: float, links: float, page: str, example: str) -> Hardware:
    peak, source = teraflops * 1e12, f"Google Cloud, docs.cloud.google.com/tpu/docs/{page}"
    return Hardware(name, "tpu", gib * GiB, 1.0, peak, peak, bandwidth * 1e9, links * 1e9, source, example)


def _gpu(
    name: str, memory: int, teraflops: float, bandwidth: float, links: float, *, cores: int, clock: float, **more: int
) -> Hardware:
    peak, source = (
        teraflops * 1e12,
        f"NVIDIA {name.upper()} SXM, dense, at second hand; openxla/xla target_config/specs",
    )
    rates = (peak, peak / 2, bandwidth * 1e9, links * 1e9)
    return Hardware(name, "cuda", memory, 0.75, *rates, source, f"{name}:8", cores=cores, clock=clock, **more)


HARDWARE: dict[str, Hardware] = {
    chip.name: chip
    for chip in (
        _tpu("v4", 32, 275, 1200, 300, "v4 (links: Jouppi et al., ISCA 2023)", "v4:2x2x1"),
        _tpu("v5e", 16, 197, 819, 200, "v5e", "v5e:4x4"),
        _tpu("v5p", 95, 459, 2765, 600, "v5p", "v5p:2x2x1"),
        _tpu("v6e", 32, 918, 1640, 400, "v6e", "v6e:4x4"),
        _gpu("a100", 85100068864, 312, 2039, 300, cores=108, clock=1.41, capability=8, cache=40 << 20, shared=167936),
        _gpu("h100", 84942979072, 989, 3352, 450, cores=132, clock=1.98, capability=9, cache=50 << 20, shared=233472),
        _gpu("h200", 151397597184, 989, 4800, 450, cores=132, clock=1.98, capability=9, cache=50 << 20, shared=233472),
    )
}
"""Chips by name. GPUs are the SXM modules; the A100 is the one with 80 GB."""


_FLAT = ("v5e", "v6e")


@dataclass(frozen=True)
class Topology:
    """Chips that are connected to each other.

    Attributes:
      name: Name such as `v5e:16x16`, or `h200:8` for the GPUs of one host.
      hardware: Specifications of each chip.
      shape: Number of chips along every axis.
    """

    name: str
    hardware: Hardware
    shape: tuple[int, ...]

    @property
    def chips(self) -> int:
        """Total number of chips."""
        return math.prod(self.shape)


def parse_topology(name: str) -> Topology:
    """Return the topology with a name such as `v5e:16x16`, `v5p:4x4x4` or `h200:8`.

    Accelerator types of Google Cloud such as `v5litepod-256` are accepted too. Their number counts chips for v5e and
    v6e. For v4 and v5p it counts cores; a chip has two.

    Raises:
      ValueError: The chip is unknown (the message names the nearest known one), the layout is missing, or the
        accelerator type does not exist.
    """
    name = _from_accelerator_type(name)
    chip, _, layout = name.partition(":")
    if chip not in HARDWARE:
        near = difflib.get_close_matches(chip, HARDWARE, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(HARDWARE)}"
        raise ValueError(f"--topology {name}: no figures for a chip {chip!r}; {hint}")
    hardware = HARDWARE[chip]
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){0,2}", layout):
        raise ValueError(f"--topology {name}: expected a layout, as in {hardware.example}, got {layout!r}")
    return Topology(name, hardware, tuple(map(int, layout.split("x"))))


def _from_accelerator_type(name: str) -> str:
    """Convert an accelerator type to a topology: `v5litepod-256` to `v5e:16x16`. Other names are unchanged."""
    match = re.fullmatch(r"(v5litepod|v5e|v6e|v5p|v4)-([1-9]\d{0,5})", name)
    if match is None:
        return name
    chip = {"v5litepod": "v5e"}.get(match[1], match[1])
    flat = chip in _FLAT
    chips = int(match[2]) if flat else int(match[2]) // 2
    shapes = _flat_shapes(chips) if flat else _cube_shapes(chips)
    if not shapes or (not flat and int(match[2]) % 2):
        raise ValueError(
            f"--topology {name}: expected an accelerator type that exists, got {match[2]} "
            f"{'chips' if flat else 'cores'}; or give a layout, as in {HARDWARE[chip].example}"
        )
    return f"{chip}:{'x'.join(map(str, shapes))}"


def _flat_shapes(chips: int) -> tuple[int, ...]:
    """Return rows and columns of a v5e or v6e slice on Google Cloud: square, or twice as long as wide."""
    sides = {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}
    return sides.get(chips, ())


def _cube_shapes(chips: int) -> tuple[int, ...]:
    """Return the layout of a v4 or v5p slice that is closest to a cube. Sides are 1, 2, or multiples of 4."""
    sides = (1, 2, *range(4, 65, 4))
    shapes = [
        (a, b, chips // (a * b))
        for a in sides
        for b in sides
        if chips % (a * b) == 0 and a <= b <= chips // (a * b) and chips // (a * b) in sides
    ]
    if chips == 4:
        return (2, 2, 1)
    return min(shapes, key=sum, default=()) if chips >= 8 else ()


def topology_devices(topology: Topology) -> list[jax.Device]:
    """Return devices that programs can be compiled for, but not run on. No accelerator has to be attached.

    Raises:
      ValueError: The compiler is not installed, or does not know the layout.
    """
    from jax.experimental import topologies

    name, hardware = topology.name, topology.hardware
    tpu = hardware.platform == "tpu"
    _require_compiler(topology)
    try:
        if tpu:
            # JAX uses the two cores of a v4 chip as one device. The compiler has to be told.
            options: dict[str, Any] = {"chip_config_name": "megacore"} if hardware.name == "v4" else {}
            description = topologies.get_topology_desc(topology_name=name, platform="tpu", **options)
        else:
            description = topologies.get_topology_desc(
                platform="cuda", target_config=target_config(hardware), topology=f"1x1x{topology.chips}"
            )
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        raise ValueError(f"--topology {name}: {error}; a layout that exists is {hardware.example}") from error
    return list(description.devices)


def _require_compiler(topology: Topology) -> None:
    tpu = topology.hardware.platform == "tpu"
    modules = ("libtpu",) if tpu else ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if not any(importlib.util.find_spec(module) for module in modules):
        extra = "tpu" if tpu else "cuda12"
        raise ValueError(
            f"--topology {topology.name}: its compiler is not installed (it needs no device); "
            f'in a checkout of this project, pip install ".[{extra}]"'
        )


def target_config(hardware: Hardware) -> str:
    """Return the description of a GPU for XLA's compiler, a GpuTargetConfigProto in text form."""
    numbers = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49152,
        "shared_memory_per_core": hardware.shared,
        "shared_memory_per_block_optin": hardware.shared - 1024,
        "threads_per_core_limit": 2048,
        "core_count": hardware.cores,
        "fpus_per_core": 64 if hardware.capability == 8 else 128,
        "block_dim_limit_x": 2147483647,
        "block_dim_limit_y": 65535,
        "block_dim_limit_z": 65535,
        "memory_bandwidth": int(hardware.bandwidth),
        "l2_cache_size": hardware.cache,
        "clock_rate_ghz": hardware.clock,
        "device_memory_size": hardware.memory,
        "registers_per_core_limit": 65536,
        "registers_per_block_limit": 65536,
    }
    lines = "\n".join(f"  {name}: {value}" for name, value in numbers.items())
    capability = f"  cuda_compute_capability {{ major: {hardware.capability} }}"
    return (
        f'gpu_device_info {{\n{lines}\n{capability}\n}}\nplatform_name: "CUDA"\n'
        "runtime_version { major: 12 minor: 8 }\ndnn_version_info { major: 9 minor: 7 }\n"
        f'device_description_str: "NVIDIA {hardware.name.upper()}"\n'
    )
