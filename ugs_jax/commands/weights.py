"""The commands `ugs import` and `ugs export`: weights from other programs, and for other programs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ugs_jax.commands.postprocess_options import PostprocessOptions

if TYPE_CHECKING:
    from ugs_jax.detectors import TrainableDetector
    from ugs_jax.experiment import Experiment
    from ugs_jax.runs import TrainState
    from ugs_jax.weights import Weights

Format = Literal["safetensors", "pytorch-state-dict", "stablehlo", "onnx"]

_AS_CONFIGURED = PostprocessOptions()
_ENDINGS = {"safetensors": "safetensors", "pytorch-state-dict": "pt", "stablehlo": "stablehlo", "onnx": "onnx"}


def import_command(words: list[str]) -> None:
    """Run `ugs import`: read a file of weights and write it as safetensors."""
    tyro.cli(_import, args=words, prog="ugs import")


def _import(file: tyro.conf.Positional[Path], output: Path | None = None) -> None:
    """Read weights of YOLOv5 v6 or v7 (n to x, P3-P5 or P2-P5) and write them as safetensors with our parameter names.

    PyTorch is not needed, and no code in the file is executed. `ugs train CONFIG --network.weights FILE` accepts the
    file that is read and the file that is written.

    Args:
      file: Checkpoint that YOLOv5 published or trained (.pt), a state dict of it, or safetensors.
      output: File to write, or folder to write it in. The default is NAME.ugs.safetensors in the current folder.
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
    """Run `ugs export`: write the weights of a run for other programs."""
    tyro.cli(_export, args=words, prog="ugs export")


def _export(
    run: tyro.conf.Positional[str],
    format: Format = "safetensors",  # noqa: A002 - the usual name on a command line
    output: Path | None = None,
    which: Literal["best", "last"] = "best",
    batch_size: int | None = None,
    postprocess: Annotated[PostprocessOptions, tyro.conf.arg(name="")] = _AS_CONFIGURED,
) -> None:
    """Write the averaged weights of a run for other programs.

    safetensors: weights with our parameter names, for any objective. `--network.weights` reads them.

    pytorch-state-dict: weights with the names and layouts of YOLOv5, for heads that regress boxes. They are read
    by `torch.load(FILE, weights_only=True)`. If the output ends in .safetensors, they are written in that format.

    stablehlo: a program from images to detections that contains the weights. It is read by `jax.export.deserialize`,
    without this library.

    onnx: a model from images to detections, with suppression inside and a description in its metadata. ONNX Runtime
    runs it without this library (docs/deploy.md). Writing it needs the extra `onnx`.

    Args:
      run: Run folder, or URL of a run. If it uses classes or functions of yours, add --import MODULE or
        --import FILE.py.
      format: Format to write.
      output: File to write, or folder to write it in. The default is NAME with the ending of the format, in the current
        folder.
      which: Checkpoint to export: the best or the last.
      batch_size: Batch size of a StableHLO program or ONNX model. By default the program takes any number of images.
      postprocess: Postprocessing in a StableHLO program or ONNX model.
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
        options = postprocess.applied(experiment.postprocess)
        data = _program(detector, state, replace(experiment, postprocess=options), format, batch_size, classes)
    else:
        data = _weights_bytes(detector, state, classes, f"{name} of {experiment.name}", format, output)
    write_atomically(output, data)
    print(f"{format}: {output} ({len(data):,} bytes)")


def _program(
    detector: "TrainableDetector",
    state: "TrainState",
    experiment: "Experiment",
    kind: str,
    batch_size: int | None,
    classes: tuple[str, ...],
) -> bytes:
    from ugs_jax.weights import export_onnx, export_program

    trained = (detector, state.ema_params, state.ema_stats, experiment.postprocess, experiment.loader.image_size)
    if kind == "onnx":
        return export_onnx(*trained, batch_size=batch_size, class_names=classes)
    return export_program(*trained, batch_size=batch_size)


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
