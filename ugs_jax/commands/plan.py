"""`ugs plan`: what training takes on accelerators that are not here."""

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
    # Nothing runs here but compilers: they need neither a device nor the metadata server of a cloud.
    for name, value in (("JAX_PLATFORMS", "cpu"), ("ALLOW_MULTIPLE_LIBTPU_LOAD", "1"), ("TPU_SKIP_MDS_QUERY", "1")):
        os.environ.setdefault(name, value)
    from ugs_jax.commands.train import load_config
    from ugs_jax.planning import hardware

    name = words.pop(0) if words and not words[0].startswith("-") else "first_light_ugs"
    options = _options(load_config(name), _joined(words), f"ugs plan {name}")
    topologies = [hardware.parse_topology(topology) for topology in options.topology]
    for topology in topologies:  # errors before minutes of compiling
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
        """Compile the training step for accelerators that are not here, and say what it takes of them.

        The data set is not built. Compiling takes minutes for each batch and variant; answers are kept.

        Args:
          topology: v5e:16x16, v5p:4x4x4, v6e:8x8, v4:2x2x1 (needs the extra `tpu`); a100:8, h100:8, h200:8 (`cuda12`).
          experiment: the experiment.
          images: training images, for the length of the schedule; counted in the data set's files if they are here.
          classes: number of classes; those of the data set without it.
          search: look for the largest batch.
          compiles: at most so many more compilations for it.
          variants: also the other precision, and rematerialisation; three more programs.
          quick: compile for TPUs with the least effort, about three times as fast; the program that training compiles
            takes other memory, see docs/plan.md.
          json: print JSON and nothing else.
          fresh: ask the compiler again instead of remembering its answers.
        """
        experiment = restore(default, experiment)
        return _Options(experiment, topology, images, classes, search, compiles, variants, quick, json, fresh)

    return tyro.cli(options, args=list(words), prog=prog, config=(tyro.conf.AvoidSubcommands,))


def _joined(words: Sequence[str]) -> list[str]:
    """`--topology A --topology B C` as `--topology A B C`."""
    others: list[str] = []
    named: list[str] = []
    into = others
    for word in words:
        if word == "--topology" or word.startswith("--topology="):
            into = named
            named += [word.partition("=")[2]] if "=" in word else []
            continue
        into = others if word.startswith("-") else into
        into.append(word)
    return [*others, "--topology", *named] if named else others


def _plans(options: _Options, topology: Any) -> "dict[tuple[str, bool], Plan]":
    """By precision and rematerialisation, that of the config first."""
    from data_pipeline.cache import default_cache_dir
    from ugs_jax.experiment import Network
    from ugs_jax.planning import plan_training

    experiment, network = options.experiment, options.experiment.network
    own = (getattr(network, "dtype", "float32"), getattr(network, "remat", False))
    if options.variants and not isinstance(network, Network):
        raise ValueError("--variants: expected a `Network`, which has `dtype` and `remat`; leave --variants out")
    found = {}
    for dtype, remat in [own, *(other for other in _VARIANTS if other != own)] if options.variants else [own]:
        chosen = network if (dtype, remat) == own else replace(network, dtype=dtype, remat=remat)
        found[dtype, remat] = plan_training(
            replace(experiment, network=chosen),
            topology,
            classes=options.classes or _classes(experiment),
            images=options.images or _images(experiment),
            compiles=options.compiles if options.search else 0,
            quick=options.quick,
            cache=None if options.fresh else default_cache_dir() / "plans",
            tell=partial(_tell, _variant(dtype, remat)),
        )
    return found


def _tell(kind: str, text: str) -> None:
    print(f"{text}, {kind} …", file=sys.stderr, flush=True)


def _images(experiment: "Experiment") -> int | None:
    """Training images, counted in the files of the data set; None where they are not here."""
    from data_pipeline import CocoJson, TinyScenes, VisDrone
    from data_pipeline.sources.coco_parse import read_coco

    data = experiment.data
    if isinstance(data, CocoJson):
        file = Path(data.train_json)
        return len(read_coco(file).images) if file.is_file() else None
    if isinstance(data, VisDrone):
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
    some = next(iter(variants.values()))
    console.print(_assumptions(some), style="dim", soft_wrap=True)
    if options.quick and some.hardware.platform == "tpu":
        console.print("Compiled with the least effort: training takes other memory, often more.", style="dim")


def _lines(plan: "Plan") -> "list[tuple[str, str]]":
    from ugs_jax.planning.plan import EFFICIENCY

    found, chip = plan.footprint, plan.hardware
    verdict = "fits" if plan.fits else "does not fit"
    peak = "an unknown size" if found.peak is None else _bytes(found.peak)
    lines = [
        ("batch", f"{plan.batch_size} images over {plan.chips} chips"),
        ("memory a chip", f"{verdict}: {peak} of {_bytes(chip.memory)}, {chip.usable:.0%} of it usable"),
    ]
    lines += [("", f"{name:<18}{_bytes(size)}") for name, size in plan.contents.items() if size]
    if plan.search is not None:
        beyond = f", {plan.search.too_large} does not" if plan.search.too_large else ", no larger one was tried"
        lines.append(("largest batch", f"{plan.search.largest or 'none'} fits{beyond}"))
    if plan.roofline is None:
        return lines
    sent = found.collectives or {}
    kinds = ", ".join(f"{kind.operations} {name} {_bytes(kind.bytes)}" for name, kind in sent.items()) or "none"
    times = ", ".join(f"{name} {1e3 * value:.3g} ms" for name, value in plan.roofline._asdict().items())
    lines += [
        ("work a chip", f"{found.flops / 1e9:.4g} GFLOP, {found.accessed / 1e9:.4g} GB read and written"),
        ("collectives", kinds),
        ("step, roofline", f"{1e3 * plan.roofline.seconds:.3g} ms, limited by {plan.roofline.limit} ({times})"),
    ]
    if plan.steps is None:
        return [*lines, ("chip-hours", "unknown: say how many training images there are, --images N")]
    least, likely = plan.chip_hours(), plan.chip_hours(EFFICIENCY)
    text = f"{least:.3g} for {plan.steps} steps at the roofline, {likely:.3g} at {EFFICIENCY:.0%} of it"
    return [*lines, ("chip-hours", text)]


def _assumptions(plan: "Plan") -> str:
    chip = plan.hardware
    return (
        f"Assumed of a chip: {chip.bfloat16 / 1e12:g} TFLOP/s in bfloat16, {chip.float32 / 1e12:g} for float32 "
        f"convolutions at JAX's default precision, HBM {chip.bandwidth / 1e9:g} GB/s, "
        f"links {chip.interconnect / 1e9:g} "
        f"GB/s one way ({chip.source}). A step takes as long as the slowest of the three; latency, padding to tiles "
        "and waiting for data are left out, reads that stay in a cache are counted. A measurement that is made every "
        "few steps counts in every step."
    )


def _bytes(number: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} B"
