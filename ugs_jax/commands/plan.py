"""`ugs plan`: memory and time of training on accelerators that need not be available."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment
    from ugs_jax.planning import Plan

_VARIANTS = [(dtype, remat) for dtype in ("float32", "bfloat16") for remat in (False, True)]


class _Options(NamedTuple):
    experiment: Any
    topology: tuple[str, ...]
    images: int | None
    classes: int | None
    search: bool
    compiles: int
    variants: bool
    quick: bool
    json: bool
    fresh: bool


def plan_command(words: list[str]) -> None:
    """Plan one experiment on one or several topologies."""
    # Only compilers run here. They need neither a device nor the metadata server of a cloud.
    for name, value in (("JAX_PLATFORMS", "cpu"), ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"), ("TPU_SKIP_MDS_QUERY", "1")):
        os.environ.setdefault(name, value)
    from ugs_jax.commands.data_option import OWN_DATA, split_data, with_data
    from ugs_jax.commands.train import load_config
    from ugs_jax.planning import hardware

    words, data = split_data(words)
    default = "first_light_ugs" if data is None else OWN_DATA
    name = words.pop(0) if words and not words[0].startswith("-") else default
    options = _options(with_data(load_config(name), data), _joined(words), f"ugs plan {name}")
    topologies = [hardware.parse_topology(topology) for topology in options.topology]
    for topology in topologies:  # raises errors before minutes of compiling
        hardware.topology_devices(topology)
    plans = {topology.name: _plans(options, topology) for topology in topologies}
    if options.json:
        print(json.dumps({name: _json(variants, options) for name, variants in plans.items()}, indent=1))
        return
    for variants in plans.values():
        _print(variants, options)


def _options(default: "Experiment", words: Sequence[str], prog: str) -> _Options:
    from ugs_jax.commands.overrides import mirror, restore

    fields = mirror(default)
    kind: Any = type(fields)

    def options(
        topology: tuple[str, ...],
        experiment: Annotated[kind, tyro.conf.arg(name="")] = fields,
        images: int | None = None,
        classes: int | None = None,
        search: bool = True,
        compiles: int = 4,
        variants: bool = False,
        quick: bool = False,
        json: bool = False,
        fresh: bool = False,
    ) -> _Options:
        """Compile the training step for accelerators that need not be available, and print its memory and time.

        The data set is not built. Compiling takes minutes for each batch size and variant. Results are cached. The
        option --data PATH plans for a data set of yours, as in `ugs train`.

        Args:
          topology: Chips and their layout: v5e:16x16, v5p:4x4x4, v6e:8x8, v4:2x2x1 (these need the extra `tpu`);
            a100:8, h100:8, h200:8 (these need `cuda12`).
          experiment: Experiment to plan.
          images: Number of training images, for the length of the schedule. By default, they are counted in the files
            of the data set if these exist.
          classes: Number of classes. The default is that of the data set.
          search: Search for the largest batch that fits.
          compiles: Largest number of further compilations for this search.
          variants: Compile all four combinations of precision and rematerialisation, which takes three more programs.
          quick: Compile for TPUs with the least effort, which is about three times as fast. The program that training
            compiles needs a different amount of memory, see docs/plan.md.
          json: Print only JSON.
          fresh: Compile again instead of using cached results.
        """
        experiment = restore(default, experiment)
        return _Options(experiment, topology, images, classes, search, compiles, variants, quick, json, fresh)

    return tyro.cli(options, args=list(words), prog=prog, config=(tyro.conf.AvoidSubcommands,))


def _joined(words: Sequence[str]) -> list[str]:
    """Return the words with all topologies behind one option: `--topology A B C` for `--topology A --topology B C`."""
    others: list[str] = []
    topologies: list[str] = []
    target = others
    for word in words:
        if word == "--topology" or word.startswith("--topology="):
            target = topologies
            topologies += [word.partition("=")[2]] if "=" in word else []
            continue
        target = others if word.startswith("-") else target
        target.append(word)
    return [*others, "--topology", *topologies] if topologies else others


def _plans(options: _Options, topology: Any) -> "dict[tuple[str, bool], Plan]":
    """Return plans by precision and rematerialisation. The variant of the config is the first."""
    from data_pipeline.cache import default_cache_dir
    from ugs_jax.experiment import Network
    from ugs_jax.planning import plan_training

    experiment, network = options.experiment, options.experiment.network
    configured = (getattr(network, "dtype", "float32"), getattr(network, "remat", False))
    if options.variants and not isinstance(network, Network):
        raise ValueError(
            "--variants: expected a `Network`, which has `dtype` and `remat`, got "
            f"{type(network).__name__}; leave --variants out"
        )
    others = [variant for variant in _VARIANTS if variant != configured] if options.variants else []
    plans = {}
    for dtype, remat in [configured, *others]:
        chosen = network if (dtype, remat) == configured else replace(network, dtype=dtype, remat=remat)
        plans[dtype, remat] = plan_training(
            replace(experiment, network=chosen),
            topology,
            classes=options.classes or _classes(experiment),
            images=options.images or _images(experiment),
            compiles=options.compiles if options.search else 0,
            quick=options.quick,
            cache=None if options.fresh else default_cache_dir() / "plans",
            tell=partial(_tell, _variant(dtype, remat)),
        )
    return plans


def _tell(kind: str, text: str) -> None:
    print(f"{text}, {kind} …", file=sys.stderr, flush=True)


def _images(experiment: "Experiment") -> int | None:
    """Return the number of training images in the files of the data set, or None if the files do not exist."""
    from data_pipeline import CocoJson, TinyScenes, VisDrone, YoloFolder
    from data_pipeline.sources.coco_parse import read_coco

    data = experiment.data
    if isinstance(data, CocoJson):
        file = Path(data.train_json)
        return len(read_coco(file).images) if file.is_file() else None
    if isinstance(data, VisDrone | YoloFolder):
        return data.count_images("train")
    return data.train_images if isinstance(data, TinyScenes) else None


def _classes(experiment: "Experiment") -> int:
    data: Any = experiment.data
    try:
        return len(data.classes)
    except AttributeError as error:
        raise ValueError(f"{type(data).__name__} has no `classes`; give the number of classes: --classes N") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{error}; or give the number of classes: --classes N") from error


def _variant(dtype: str, remat: bool) -> str:
    return f"{dtype}, {'with' if remat else 'without'} rematerialisation"


def _json(variants: "dict[tuple[str, bool], Plan]", options: _Options) -> dict[str, Any]:
    first, *others = ({"dtype": dtype, "remat": remat, **plan.json()} for (dtype, remat), plan in variants.items())
    experiment, network = options.experiment, options.experiment.network
    size = {
        "experiment": experiment.name,
        "network": getattr(network, "size", str(network)),
        "kind": getattr(network, "kind", type(network).__name__),
        "p2": getattr(network, "p2", False),
        "quick": options.quick,
    }
    return {**size, "image_size": list(experiment.loader.image_size), **first, "variants": others}


def _print(variants: "dict[tuple[str, bool], Plan]", options: _Options) -> None:
    from rich.console import Console

    experiment = options.experiment
    console = Console(highlight=False)
    height, width = experiment.loader.image_size
    for (dtype, remat), plan in variants.items():
        network = str(experiment.network)
        console.rule(f"{plan.topology}: {experiment.name}, {network}, {height}×{width}, {_variant(dtype, remat)}")
        for label, text in _lines(plan):
            console.print(f"{label:<18}{text}", soft_wrap=True)
    first = next(iter(variants.values()))
    console.print(_assumptions(first), style="dim", soft_wrap=True)
    if options.quick and first.hardware.platform == "tpu":
        console.print(
            "Compiled with the least effort. Training needs other amounts of memory, often more.", style="dim"
        )


def _lines(plan: "Plan") -> "list[tuple[str, str]]":
    from data_pipeline.wording import counted
    from ugs_jax.planning.plan import EFFICIENCY

    footprint, chip = plan.footprint, plan.hardware
    verdict = "fits" if plan.fits else "does not fit"
    peak = "an unknown size" if footprint.peak is None else _bytes(footprint.peak)
    lines = [
        ("batch", f"{counted(plan.batch_size, 'image')} over {counted(plan.chips, 'chip')}"),
        ("memory per chip", f"{verdict}: {peak} of {_bytes(chip.memory)}, {chip.usable:.0%} of it usable"),
    ]
    lines += [("", f"{name:<18}{_bytes(size)}") for name, size in plan.contents.items() if size]
    if plan.search is not None:
        beyond = f", {plan.search.too_large} does not" if plan.search.too_large else ", no larger batch was tried"
        lines.append(("largest batch", f"{plan.search.largest or 'none'} fits{beyond}"))
    if plan.roofline is None:
        return lines
    collectives = footprint.collectives or {}
    kinds = ", ".join(f"{kind.operations} {name} {_bytes(kind.bytes)}" for name, kind in collectives.items()) or "none"
    times = ", ".join(f"{name} {1e3 * value:.3g} ms" for name, value in plan.roofline._asdict().items())
    lines += [
        ("work per chip", f"{footprint.flops / 1e9:.4g} GFLOP, {footprint.accessed / 1e9:.4g} GB read and written"),
        ("collectives", kinds),
        ("step, roofline", f"{1e3 * plan.roofline.seconds:.3g} ms, limited by {plan.roofline.limit} ({times})"),
    ]
    if plan.steps is None:
        return [*lines, ("chip-hours", "unknown; give the number of training images: --images N")]
    least, likely = plan.chip_hours(), plan.chip_hours(EFFICIENCY)
    text = f"{least:.3g} for {counted(plan.steps, 'step')} at the roofline, {likely:.3g} at {EFFICIENCY:.0%} of it"
    return [*lines, ("chip-hours", text)]


def _assumptions(plan: "Plan") -> str:
    chip = plan.hardware
    return (
        f"Assumptions for a chip: {chip.bfloat16 / 1e12:g} TFLOP/s in bfloat16, {chip.float32 / 1e12:g} for float32 "
        f"convolutions at JAX's default precision, HBM {chip.bandwidth / 1e9:g} GB/s, "
        f"links {chip.interconnect / 1e9:g} GB/s one way ({chip.source}). "
        "A step takes as long as the slowest of the three. Latency, padding to tiles and waiting for data are not "
        "counted; reads that stay in a cache are. A measurement that is made every few steps is counted in every step."
    )


def _bytes(number: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"
