"""`ugs import` and `ugs export`: weights from elsewhere, and for elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from ugs_jax.detectors import TrainableDetector
    from ugs_jax.experiment import Experiment
    from ugs_jax.runs import TrainState
    from ugs_jax.weights import Weights

Format = Literal["safetensors", "pytorch-state-dict", "stablehlo", "onnx"]

_ENDINGS = {"safetensors": "safetensors", "pytorch-state-dict": "pt", "stablehlo": "stablehlo", "onnx": "onnx"}


def import_command(words: list[str]) -> None:
    """Read a file of weights and write it as safetensors."""
    tyro.cli(_import, args=words, prog="ugs import")


def _import(file: tyro.conf.Positional[Path], output: Path | None = None) -> None:
    """Read weights of YOLOv5 v6 or v7 (n to x, P3-P5 or P2-P5) and write them as safetensors, with names of ours.

    No PyTorch is needed, and nothing in the file is executed. `ugs train CONFIG --network.weights FILE` takes either
    file.

    Args:
      file: what YOLOv5 published or trained (.pt), a state dict of it, or safetensors.
      output: the file to write, or a folder to write it in; NAME.ugs.safetensors here without it.
    """
    from ugs_jax.weights import read_weights, write_weights

    weights = read_weights(file)
    output = _place(output, f"{file.stem.removesuffix('.ugs')}.ugs.safetensors")
    if output.exists() and output.samefile(file):
        raise ValueError(f"{output}: expected another file than the one that is read; choose another --output")
    write_weights(output, weights)
    for label, text in _facts(weights):
        print(f"{label:<12}{text}")
    print(f"weights: {output}")


def _place(output: Path | None, name: str) -> Path:
    if output is None:
        return Path(name)
    return output / name if output.is_dir() else output


def _facts(weights: "Weights") -> list[tuple[str, str]]:
    arch = weights.arch
    anchors = [" ".join(f"{w:g},{h:g}" for w, h in level) for level in arch.anchors]
    return [
        ("from", weights.origin),
        ("network", f"{weights.network}, {weights.num_parameters:,} parameters"),
        ("boxes", weights.decoding),
        ("classes", f"{arch.classes}{': ' + ', '.join(weights.classes) if weights.classes else ''}"),
        *((f"anchors /{stride}", f"{sizes} px") for stride, sizes in zip(arch.strides, anchors, strict=True)),
    ]


def export_command(words: list[str]) -> None:
    """Write the weights of a run for elsewhere."""
    tyro.cli(_export, args=words, prog="ugs export")


def _export(
    run: tyro.conf.Positional[str],
    format: Format = "safetensors",  # noqa: A002 - the word for it on a command line
    output: Path | None = None,
    which: Literal["best", "last"] = "best",
    batch_size: int | None = None,
) -> None:
    """Write the averaged weights of a run for other programs.

    safetensors: weights with names of ours, any objective; `--network.weights` reads them. pytorch-state-dict: names
    and layouts of YOLOv5, for heads that regress boxes; `torch.load(FILE, weights_only=True)` reads them, and with an
    output that ends in .safetensors they are written as such. stablehlo: a program from images to detections with the
    weights inside, which `jax.export.deserialize` reads without this library. onnx: a model from images to boxes and
    scores of all anchors, before suppression; needs jax2onnx.

    Args:
      run: a run folder, or the URL of a run. If it uses classes or functions of yours, add --import MODULE or
        --import FILE.py.
      format: what to write.
      output: the file to write, or a folder to write it in; NAME with the usual ending here without it.
      which: checkpoint.
      batch_size: of a StableHLO program or ONNX model; any number of images without it.
    """
    from ugs_jax.atomic import write_atomically
    from ugs_jax.runs import RunFolder, load_for_inference, read_experiment
    from ugs_jax.runs.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment, classes = read_experiment(opened.folder), RunFolder(opened.folder).read_classes()
        detector, state, _ = load_for_inference(opened.folder, experiment, which=which)
    name = f"{run.rstrip('/').rsplit('/', 1)[-1]}-{which}"
    output = _place(output, f"{name}.{_ENDINGS[format]}")
    if format in ("stablehlo", "onnx"):
        data = _program(detector, state, experiment, format, batch_size)
    else:
        data = _weights_bytes(detector, state, classes, f"{name} of {experiment.name}", format, output)
    write_atomically(output, data)
    print(f"{format}: {output} ({len(data):,} bytes)")


def _program(
    detector: "TrainableDetector", state: "TrainState", experiment: "Experiment", kind: str, batch_size: int | None
) -> bytes:
    from ugs_jax.weights import export_onnx, export_program

    size, options = experiment.loader.image_size, experiment.postprocess
    if kind == "onnx":
        return export_onnx(detector, state.ema_params, state.ema_stats, size, batch_size=batch_size)
    return export_program(detector, state.ema_params, state.ema_stats, options, size, batch_size=batch_size)


def _weights_bytes(
    detector: "TrainableDetector", state: "TrainState", classes: tuple[str, ...], origin: str, kind: str, output: Path
) -> bytes:
    import safetensors.numpy

    from ugs_jax.detectors import Detector
    from ugs_jax.weights import published_arrays, torch_bytes, weights_of

    if not isinstance(detector, Detector):
        raise ValueError(
            f"--format {kind}: expected a YOLOv5 or TPH-YOLOv5 of this library, whose layers have names there, got "
            f"{type(detector).__name__}; use --format stablehlo or onnx"
        )
    weights = weights_of(detector, state.ema_params, state.ema_stats, classes=classes, origin=origin)
    if kind == "safetensors":
        return weights.to_bytes()
    arrays = published_arrays(weights)
    return safetensors.numpy.save(arrays) if output.suffix == ".safetensors" else torch_bytes(arrays)
