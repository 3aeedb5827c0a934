"""The command `ugs env`: what a report of a problem needs to say about the machine."""

import importlib.metadata
import os
import platform
from collections.abc import Iterator

import tyro

_PACKAGES = (
    "tensorflow-datasets",
    "opencv-python-headless",
    "pillow",
    "fsspec",
    "gcsfs",
    "s3fs",
    "huggingface-hub",
    "onnx",
)
_VARIABLES = ("JAX_PLATFORMS", "XLA_FLAGS", "JAX_ENABLE_X64", "CUDA_VISIBLE_DEVICES")


def env_command(words: list[str]) -> None:
    """Run `ugs env`."""
    tyro.cli(_env, args=words, prog="ugs env")


def _env() -> None:
    """Print versions, devices and memory, for reports of problems. No paths are printed."""
    rows = list(_rows())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _rows() -> Iterator[tuple[str, str]]:
    import jax
    from jax.extend.backend import get_backend

    from ugs_jax.runs.versions import versions

    yield "python", f"{platform.python_version()}"
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield from versions().items()
    for package in _PACKAGES:
        yield package, _version(package)
    yield "processor", f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    yield "memory", _memory()
    yield "backend", " ".join([jax.default_backend(), *get_backend().platform_version.split()])
    for device in jax.local_devices():
        yield f"device {device.id}", f"{device.device_kind}{_device_memory(device.memory_stats())}"
    yield "processes", str(jax.process_count())
    for name in _VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _memory() -> str:
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    return f"{page * pages / 2**30:.1f} GiB"


def _device_memory(stats: dict[str, int] | None) -> str:
    return f", {stats['bytes_limit'] / 2**30:.1f} GiB" if stats and "bytes_limit" in stats else ""
