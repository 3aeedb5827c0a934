"""The commands `ugs import` and `ugs export`: weights from other programs, and for other programs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ugs_jax.commands.postprocess_options import PostprocessOptions
from ugs_jax.commands.source_options import SourceOptions

if TYPE_CHECKING:
    from ugs_jax.detectors import TrainableDetector
    from ugs_jax.experiment import Experiment
    from ugs_jax.runs import LoadedDetector, TrainState
    from ugs_jax.runs.state import Averages
    from ugs_jax.weights import Weights

Format = Literal["safetensors", "pytorch-state-dict", "stablehlo", "onnx"]

_AS_CONFIGURED = PostprocessOptions()
_UNCHANGED = SourceOptions()
_ENDINGS = {"safetensors": "safetensors", "pytorch-state-dict": "pt", "stablehlo": "stablehlo", "onnx": "onnx"}


def import_command(words: list[str]) -> None:
    """Run `ugs import`: read a file of weights and write it as safetensors."""
    tyro.cli(_import, args=words, prog="ugs import")


def _import(file: tyro.conf.Positional[str], output: Path | None = None) -> None:
    """Read weights of YOLOv5, YOLOv5u, YOLOv8, YOLO11 or YOLO26 and write them as safetensors with our parameter names.

    The sizes n to x are read, with P3 to P5 or P2 to P5.

    PyTorch is not needed, and no code in the file is executed. `ugs train CONFIG --network.weights FILE` accepts the
    file that is read and the file that is written.

    Args:
      file: Checkpoint that was published, or that the publisher's trainer wrote (.pt), a state dict of it, or
        safetensors; or its URL.
      output: File to write, or folder to write it in. The default is NAME.ugs.safetensors in the current folder.
    """
    from ugs_jax.runs.remote.weights_file import local_file
    from ugs_jax.weights import read_weights, write_weights

    path = local_file(file)
    weights = read_weights(path)
    output = _place(output, f"{path.stem.removesuffix('.ugs')}.ugs.safetensors")
    if output.exists() and output.samefile(path):
        raise ValueError(f"{output}: expected another file than the one that is read; choose another --output")
    write_weights(output, weights)
    for label, text in _facts(weights):
        print(f"{label:<12}{text}")
    for note in weights.notes:
        print(note)
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
    source: Annotated[SourceOptions, tyro.conf.arg(name="")] = _UNCHANGED,
) -> None:
    """Write the averaged weights of a run, or a file of weights, for other programs.

    safetensors: weights with our parameter names, for any objective, with all settings that detection needs. The
    commands that take a run read them, and so does `--network.weights`.

    pytorch-state-dict: weights with the published names and layouts, for heads of YOLOv5 that regress boxes, and
    heads of YOLOv8, YOLO11 and YOLOv5u (`DFL()`) and of YOLO26 (`SideRegression()`). They are read by
    `torch.load(FILE, weights_only=True)`. If the output ends in .safetensors, they are written in that format.

    stablehlo: a program from images to detections that contains the weights. It is read by `jax.export.deserialize`,
    without this library.

    onnx: a model from images to detections, with suppression inside and a description in its metadata. ONNX Runtime
    runs it without this library (docs/deploy.md). Writing it needs the extra `onnx`.

    Args:
      run: Run folder, file of weights (.pt or .safetensors), or URL of one of them. If a run uses classes or functions
        of yours, add --import MODULE or --import FILE.py.
      format: Format to write.
      output: File to write, or folder to write it in. The default is NAME with the ending of the format, in the current
        folder.
      which: Checkpoint of a run to export: the best or the last.
      batch_size: Batch size of a StableHLO program or ONNX model. By default the program takes any number of images.
      postprocess: Postprocessing in a StableHLO program or ONNX model.
      source: Image size and class names.
    """
    from ugs_jax.atomic import write_atomically
    from ugs_jax.runs.remote.weights_file import is_weights_file

    model = source.load(run, which)
    is_file = is_weights_file(run)
    name = model.name if is_file else f"{model.name}-{which}"
    output = _place(output, f"{name}.{_ENDINGS[format]}")
    if is_file and output.exists() and Path(run).exists() and output.samefile(run):
        raise ValueError(f"{output}: expected another file than the one that is read; choose another --output")
    if format in ("stablehlo", "onnx"):
        options = postprocess.applied(model.postprocess)
        experiment = replace(model.experiment, postprocess=options)
        data = _program(model.detector, model.state, experiment, format, batch_size, model.classes)
    else:
        data = _weights_bytes(model, name if is_file else f"{name} of {model.experiment.name}", format, output)
    write_atomically(output, data)
    print(f"{format}: {output} ({len(data):,} bytes)")


def _program(
    detector: "TrainableDetector",
    state: "TrainState | Averages",
    experiment: "Experiment",
    kind: str,
    batch_size: int | None,
    classes: tuple[str, ...],
) -> bytes:
    from data_pipeline import Tiles
    from ugs_jax.weights import export_onnx, export_program

    trained = (detector, state.ema_params, state.ema_stats, experiment.postprocess, experiment.loader.image_size)
    if kind == "onnx":
        data = experiment.data
        tiles = {"tile": data.size, "overlap": data.overlap} if isinstance(data, Tiles) else None
        return export_onnx(*trained, batch_size=batch_size, class_names=classes, tiles=tiles)
    return export_program(*trained, batch_size=batch_size)


def _weights_bytes(model: "LoadedDetector", origin: str, kind: str, output: Path) -> bytes:
    import safetensors.numpy

    from ugs_jax.detectors import Detector
    from ugs_jax.runs.from_weights import inference_settings
    from ugs_jax.weights import published_arrays, torch_bytes, weights_of

    detector = model.detector
    if not isinstance(detector, Detector):
        raise ValueError(
            f"--format {kind}: expected a YOLOv5 or TPH-YOLOv5 of this library, whose layers have names there, got "
            f"{type(detector).__name__}; use --format stablehlo or onnx"
        )
    weights = weights_of(detector, model.params, model.stats, classes=model.classes, origin=origin)
    if kind == "safetensors":
        return replace(weights, inference=inference_settings(detector, model.experiment)).to_bytes()
    arrays = published_arrays(weights)
    return safetensors.numpy.save(arrays) if output.suffix == ".safetensors" else torch_bytes(arrays)
