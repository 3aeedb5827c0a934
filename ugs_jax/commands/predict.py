"""The command `ugs predict`: boxes of image files, as a whole or in tiles."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from data_pipeline import DataError
from ugs_jax.commands.inference_options import InferenceOptions

_DEFAULT = InferenceOptions()


def predict_command(words: list[str]) -> None:
    """Detect objects in image files."""
    tyro.cli(_predict_images, args=words, prog="ugs predict")


def _predict_images(
    run: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    output: Path = Path("predictions"),
    threshold: float = 0.25,
    which: Literal["best", "last"] = "best",
    looks: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Detect objects in image files; write predictions.json and one picture for each image.

    A file that cannot be read is named and skipped.

    Args:
      run: a run folder, or the URL of a run. If it uses classes or functions of yours, add --import MODULE or
        --import FILE.py.
      images: image files, or folders of them.
      output: folder to write.
      threshold: least score of a box in the pictures; the JSON holds all.
      which: checkpoint.
      looks: how the network looks at images.
    """
    from ugs_jax.report import write_predictions
    from ugs_jax.runs import RunFolder, load_for_inference, predict_files, read_experiment
    from ugs_jax.runs.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment, classes = read_experiment(opened.folder), RunFolder(opened.folder).read_classes()
        detector, state, _ = load_for_inference(opened.folder, experiment, which=which)
    experiment = replace(experiment, postprocess=looks.postprocess(experiment.postprocess))
    skipped: list[DataError] = []

    def skip(error: DataError) -> None:
        skipped.append(error)
        print(f"{error} It is skipped.", file=sys.stderr)

    found = predict_files(
        detector, state, experiment, images, tiling=looks.tiling, augmented=looks.augmented, on_error=skip
    )
    print(f"boxes: {write_predictions(output, found, classes, threshold)}")
    if skipped:
        print(f"skipped: {len(skipped)} {'file' if len(skipped) == 1 else 'files'}, named above")
