"""The command `ugs predict`: detection in image and video files, as a whole or in tiles."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from data_pipeline import DataError
from data_pipeline.wording import counted
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.commands.source_options import SourceOptions

if TYPE_CHECKING:
    from ugs_jax.report import Prediction, WrittenPredictions

FormatName = Literal["coco", "yolo", "csv", "visdrone"]
_PERIOD = 10.0  # seconds between two lines about progress
_UNCHANGED = SourceOptions()
_DEFAULT = InferenceOptions()


def predict_command(words: list[str]) -> None:
    """Run `ugs predict`: detect objects in image and video files."""
    tyro.cli(_predict_images, args=words, prog="ugs predict")


def _predict_images(
    run: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    output: Path = Path("predictions"),
    format: tyro.conf.UseAppendAction[tuple[FormatName, ...]] = (),  # noqa: A002 - the name of the flag
    threshold: float = 0.25,
    keep: float = 0.0,
    pictures: bool = True,
    which: Literal["best", "last"] = "best",
    engine: Literal["jax", "onnx"] = "jax",
    source: Annotated[SourceOptions, tyro.conf.arg(name="")] = _UNCHANGED,
    options: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Detect objects in image and video files, and write their boxes, and a picture or video with boxes for each.

    Files that cannot be read are named, counted and skipped. `summary.json` has the counts.

    Args:
      run: Run folder, file of weights (.pt or .safetensors), or URL of one of them. If a run uses classes or functions
        of yours, add --import MODULE or --import FILE.py.
      images: Image and video files, or folders of them.
      output: Folder to write.
      format: Format of the boxes; the default is coco. Repeat the flag for several formats. coco: predictions.json, a
        list of COCO results for `ugs score` and pycocotools, and dataset.json, the same boxes as a COCO data set for
        supervision, FiftyOne and annotation programs. yolo: a text file for each image. csv: predictions.csv.
        visdrone: a submission, visdrone.zip.
      threshold: Lowest score of the boxes in the pictures and videos.
      keep: Lowest score of the boxes in the files. The default keeps all boxes, as scoring needs them.
      pictures: Write pictures and videos with boxes.
      which: Checkpoint of a run to use: the best or the last.
      engine: Engine that computes the detections. jax: the devices of JAX. onnx: ONNX Runtime on the CPU, which is
        faster there; it needs the packages onnx and onnxruntime.
      source: Image size and class names.
      options: Options of inference.
    """
    from ugs_jax.report import write_predictions
    from ugs_jax.runs import predict_files

    model = source.load(run, which)
    detector, state, classes, category_ids = model.detector, model.state, model.classes, model.category_ids
    experiment = replace(model.experiment, postprocess=options.postprocess(model.postprocess))
    skipped: list[DataError] = []

    def skip(error: DataError) -> None:
        skipped.append(error)
        print(f"skipped: {error}", file=sys.stderr)

    predictions = predict_files(
        detector,
        state,
        experiment,
        images,
        tiling=options.tiling,
        augmented=options.augmented,
        engine=engine,
        on_error=skip,
    )
    written = write_predictions(
        output,
        _with_progress(predictions),
        classes,
        threshold,
        formats=format or ("coco",),
        category_ids=category_ids,
        keep=keep,
        pictures=pictures,
        skipped=skipped,
    )
    _print(written, threshold, len(skipped))


def _with_progress(
    predictions: "Iterable[Prediction]", clock: Callable[[], float] = time.monotonic
) -> "Iterator[Prediction]":
    """Yield predictions, and print a line to standard error every ten seconds."""
    started = last = clock()
    for count, prediction in enumerate(predictions, 1):
        yield prediction
        if (now := clock()) - last >= _PERIOD:
            last, frame = now, prediction.frame
            place = "" if frame is None else f", frame {frame.number + 1:,} at {frame.seconds:.1f} s"
            speed = f"{count / (now - started):.2g} images/s"
            print(
                f"{prediction.file_name}{place}; {counted(count, 'image')} done, {speed}", file=sys.stderr, flush=True
            )


def _print(written: "WrittenPredictions", threshold: float, skipped: int) -> None:
    counts = [counted(written.images, "image")] if written.images or not written.videos else []
    if written.videos:
        counts.append(f"{counted(written.frames, 'frame')} of {counted(written.videos, 'video')}")
    above = f"{written.above_threshold:,} with a score of at least {threshold:g}"
    print(f"{counted(written.boxes, 'box')} in {' and '.join(counts)}, {above}")
    for name, file in written.files.items():
        print(f"{name}: {file}")
    if skipped:
        print(f"skipped: {counted(skipped, 'file')}, named above")
