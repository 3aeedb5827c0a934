"""The command `ugs predict`: detection in image files, as a whole or in tiles."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_pipeline import DataError
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.commands.source_options import SourceOptions

_UNCHANGED = SourceOptions()
_DEFAULT = InferenceOptions()


def predict_command(words: list[str]) -> None:
    """Run `ugs predict`: detect objects in image files."""
    tyro.cli(_predict_images, args=words, prog="ugs predict")


def _predict_images(
    run: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    output: Path = Path("predictions"),
    threshold: float = 0.25,
    which: Literal["best", "last"] = "best",
    source: Annotated[SourceOptions, tyro.conf.arg(name="")] = _UNCHANGED,
    options: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Detect objects in image files, and write predictions.json and one picture for each image.

    Files that cannot be read are named and skipped.

    Args:
      run: Run folder, file of weights (.pt or .safetensors), or URL of one of them. If a run uses classes or functions
        of yours, add --import MODULE or --import FILE.py.
      images: Image files, or folders of image files.
      output: Folder to write.
      threshold: Lowest score of the boxes in the pictures. The JSON file contains all boxes.
      which: Checkpoint of a run to use: the best or the last.
      source: Image size and class names.
      options: Options of inference.
    """
    from ugs_jax.report import write_predictions
    from ugs_jax.runs import predict_files

    model = source.load(run, which)
    detector, state, classes = model.detector, model.state, model.classes
    experiment = replace(model.experiment, postprocess=options.postprocess(model.postprocess))
    skipped: list[DataError] = []

    def skip(error: DataError) -> None:
        skipped.append(error)
        print(f"{error} The file is skipped.", file=sys.stderr)

    predictions = predict_files(
        detector, state, experiment, images, tiling=options.tiling, augmented=options.augmented, on_error=skip
    )
    print(f"boxes: {write_predictions(output, predictions, classes, threshold)}")
    if skipped:
        print(f"skipped: {len(skipped)} {'file' if len(skipped) == 1 else 'files'}, named above")
