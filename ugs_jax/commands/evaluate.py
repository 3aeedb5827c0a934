"""`ugs eval`: scores, submission and calibration of a run."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from data_pipeline import DataError, Dataset, VisDrone, YoloFolder
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.commands.score import ProtocolName, print_scores, room_for, scorer_for, write_evaluation, write_results
from ugs_jax.commands.tiled_data import scored_data, whole_image_note, whole_images

if TYPE_CHECKING:
    from ugs_jax.evaluation import CocoScorer, ImageDetections, VisDroneScorer
    from ugs_jax.experiment import Experiment

Which = Literal["best", "last"]
Split = Literal["val", "train", "test", "challenge"]
_DEFAULT = InferenceOptions()


class Evaluation(NamedTuple):
    """Scores of a run on a split, and the files with them.

    Attributes:
      scores: Scores in [0, 1] by name. A score without any object to count is None. Images without annotations have no
        scores.
      counted: Description of the protocol in one line.
      written: Written files by kind.
    """

    scores: dict[str, float | None]
    counted: str
    written: dict[str, Path]


def eval_command(words: list[str]) -> None:
    """Score a run on the images of its config."""
    tyro.cli(_evaluate_run, args=words, prog="ugs eval")


def _evaluate_run(
    run: tyro.conf.Positional[str],
    which: Which = "best",
    split: Split = "val",
    protocol: ProtocolName = "default",
    calibration: bool = False,
    plots: bool = False,
    looks: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Score a run on the images of its config.

    A run on `Tiles` is scored on its validation tiles, and with `--tile` on whole images.

    With `--protocol visdrone` the detections are also written as a submission: a folder of text files and a zip
    archive. Images without annotations cannot be scored. For those of VisDrone a submission is written, for others a
    file of COCO results.

    Args:
      run: Run folder, or URL of a run. If the run uses classes or functions of yours, add `--import MODULE`
        or `--import FILE.py`.
      which: Checkpoint.
      split: Split of the data set. val: the validation images. train: the training images without augmentation, to
        measure overfitting. test: test-dev of VisDrone, or the test images of a data.yaml. challenge: test-challenge of
        VisDrone, which has no annotations, so that only a submission is written.
      protocol: Scoring protocol. Protocols other than the default keep as many detections as they count.
      calibration: Also compare the predicted standard deviations of box sides with the actual errors, without tiles and
        test-time augmentation. The result is written to calibration_best.json and .png.
      plots: Also write report.html, with precision, recall and F1 over the confidence, confusion, the worst images and
        calibration; the same plots as PNG files; and the numbers as diagnosis_best.json.
      looks: Tiles, test-time augmentation and postprocessing.
    """
    from ugs_jax.runs import read_experiment
    from ugs_jax.runs.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment = read_experiment(opened.folder)
        if calibration:
            _check_calibration(experiment, split)
        evaluation = evaluate_run(opened.folder, which=which, split=split, protocol=protocol, looks=looks, plots=plots)
        _print(evaluation, f"{experiment.name} ({which}, {split})")
        if looks.tile is None and (note := whole_image_note(experiment.data, run, split)):
            print(note)
        written = evaluation.written
        if calibration:
            written |= write_calibration(opened.folder, which, "train" if split == "train" else "val")
    for kind, file in written.items():
        print(f"{kind}: {opened.shown(file)}")


def evaluate_run(
    folder: Path,
    *,
    which: Which = "best",
    split: Split = "val",
    protocol: ProtocolName = "default",
    looks: InferenceOptions = _DEFAULT,
    plots: bool = False,
) -> Evaluation:
    """Score a run on the images of its config. Write the scores and the submission into its folder.

    A run on `Tiles` is scored on its validation tiles. With `looks.tile`, it is scored on the whole images, which the
    inference cuts.

    Args:
      folder: Folder of the run.
      which: Checkpoint.
      split: Split of the data set.
      protocol: Scoring protocol.
      looks: Tiles, test-time augmentation and postprocessing.
      plots: Also write a report with plots, from the same detections.

    Returns:
      The scores and the written files.

    Raises:
      FileNotFoundError: The run or the checkpoint does not exist.
      ValueError: The data set does not have the split.
      DataError: Images or annotations cannot be used.
    """
    from ugs_jax.report import write_evaluation_report
    from ugs_jax.runs import read_experiment

    experiment = read_experiment(folder)
    source = whole_images(experiment.data)
    has_test = isinstance(source, YoloFolder) and split == "test"
    if split in ("test", "challenge") and not has_test and not isinstance(source, VisDrone):
        raise ValueError(
            f"--split {split}: expected a run on VisDrone{' or a YoloFolder' if split == 'test' else ''}, got one on "
            f"{type(source).__name__}, which has val and train; leave --split out, or score the detections of "
            "other images with `ugs predict` and `ugs score`"
        )
    scored = scored_data(experiment.data, split, protocol, tiled=looks.tile is not None)
    experiment, data = replace(experiment, data=scored), scored.open(split)
    if not len(data.table.boxes):
        return _detections_only(folder, experiment, which, split, protocol, data, looks)
    scorer, name = scorer_for(protocol, data, experiment.data), _name(which, split, protocol, looks)
    found: list[tuple[int, ImageDetections]] = []
    _collect(folder, experiment, which, data, scorer, protocol, looks, found if plots else None)
    scores = scorer.score()
    written = write_evaluation(folder, name, scorer, scores, data)
    if plots:
        written |= write_evaluation_report(folder, name, data, found, scores, scorer.describe())
    return Evaluation(scores, scorer.describe(), written)


def _detections_only(
    folder: Path,
    experiment: "Experiment",
    which: Which,
    split: Split,
    protocol: ProtocolName,
    data: Dataset,
    looks: InferenceOptions,
) -> Evaluation:
    """Write the detections in images without annotations: a submission for VisDrone, COCO results for other data."""
    from ugs_jax.atomic import write_atomically
    from ugs_jax.evaluation import CocoScorer, VisDroneScorer

    if protocol == "visdrone" or isinstance(experiment.data, VisDrone):
        submission = VisDroneScorer(data)
        _collect(folder, experiment, which, data, submission, "visdrone", looks)
        file = write_results(folder, _name(which, split, "visdrone", looks), submission, data)
        return Evaluation({}, "", {"submission": file})
    scorer = CocoScorer(data)
    _collect(folder, experiment, which, data, scorer, protocol, looks)
    rows = [{"file_name": data.file_names[row["image_id"]], **row} for row in scorer.rows]
    file = folder / f"results_{_name(which, split, protocol, looks)}.json"
    write_atomically(file, json.dumps(rows).encode())
    return Evaluation({}, "", {"results": file})


def _name(which: Which, split: Split, protocol: ProtocolName, looks: InferenceOptions) -> str:
    """Return the checkpoint and all settings that are not defaults, as a part of file names."""
    parts = [which, "" if split == "val" else split, "" if protocol == "default" else protocol, looks.describe()]
    return "_".join(part for part in parts if part)


def write_calibration(folder: Path, which: Which, split: Literal["val", "train"]) -> dict[str, Path]:
    """Write `calibration_<checkpoint>.json` and `.png` into the folder of a run, and return these files by kind.

    Args:
      folder: Folder of the run.
      which: Checkpoint.
      split: Split of the data set.

    Raises:
      ValueError: No detection matches an object.
    """
    from ugs_jax.analysis import measure_calibration
    from ugs_jax.atomic import write_atomically
    from ugs_jax.report import plot_calibration

    measured = measure_calibration(folder, which=which, split=split)
    file = folder / f"calibration_{which}{'' if split == 'val' else f'_{split}'}.json"
    values = {
        "unit": "px of the stored images; root mean squares over the sides of a bin",
        "factor": measured.factor,
        "predicted": measured.predicted.tolist(),
        "error": measured.error.tolist(),
        "count": measured.count.tolist(),
    }
    write_atomically(file, json.dumps(values, indent=1).encode())
    return {"calibration": file, "picture": plot_calibration(measured, file.with_suffix(".png"))}


def _print(evaluation: Evaluation, title: str) -> None:
    if evaluation.scores:
        print_scores(evaluation.scores, title, evaluation.counted)
    else:
        print(f"{title}: no scores, because the images have no annotations")


def _check_calibration(experiment: "Experiment", split: Split) -> None:
    from ugs_jax.objectives import PredictsDeviation

    if not isinstance(experiment.localization, PredictsDeviation):
        raise ValueError(
            "--calibration: expected a run whose objective predicts a distribution, such as UGS or DFL, got "
            f"{type(experiment.localization).__name__}, which predicts no deviations; leave --calibration out"
        )
    if split not in ("val", "train"):
        raise ValueError(f"--calibration: expected --split val or train, got {split}; run it without --split")


def _collect(
    folder: Path,
    experiment: "Experiment",
    which: Which,
    data: Dataset,
    scorer: "CocoScorer | VisDroneScorer",
    protocol: ProtocolName,
    looks: InferenceOptions,
    found: "list[tuple[int, ImageDetections]] | None" = None,
) -> None:
    """Add the detections in all images to a scorer, and to `found` if it is given."""
    from ugs_jax.evaluation import split_batch
    from ugs_jax.runs import image_detector, load_for_inference
    from ugs_jax.training import jit_detect
    from ugs_jax.training.evaluate import detections

    detector, state, mesh = load_for_inference(folder, experiment, which=which)
    options = looks.postprocess(room_for(protocol, experiment.postprocess))
    if not looks.one_look:
        _collect_looks(image_detector(detector, state, options), experiment, data, scorer, looks, found)
        return
    detect = jit_detect(detector, options, mesh)
    batches = detections(detect, state.ema_params, state.ema_stats, data, experiment.loader, mesh, images=False)
    for detected, batch in batches:
        scorer.add_batch(detected, batch)
        if found is not None:
            found += split_batch(detected, batch)


def _collect_looks(
    detect: Any,
    experiment: "Experiment",
    data: Dataset,
    scorer: "CocoScorer | VisDroneScorer",
    looks: InferenceOptions,
    found: "list[tuple[int, ImageDetections]] | None",
) -> None:
    """Add the detections of tiles and of test-time augmentation to a scorer, one image at a time."""
    from ugs_jax.evaluation import coco_rows
    from ugs_jax.inference import detect_image

    size = experiment.loader.image_size
    for index in range(len(data)):
        try:
            image = data.pixels(index)
        except DataError as error:
            if experiment.loader.strict:
                raise
            print(f"{error} The image is left out.", file=sys.stderr)
            continue
        detected = detect_image(detect, image, size, tiling=looks.tiling, augmented=looks.augmented)
        scorer.add(coco_rows(index, detected))
        if found is not None:
            found.append((index, detected))
