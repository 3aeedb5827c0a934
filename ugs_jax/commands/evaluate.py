"""`ugs eval`: scores of a run, its submission, its calibration."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import tyro

from data_pipeline import DataError, Dataset, VisDrone
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.commands.score import ProtocolName, print_scores, room_for, scorer_for, write_evaluation, write_results

if TYPE_CHECKING:
    from ugs_jax.evaluation import CocoScorer, VisDroneScorer
    from ugs_jax.experiment import Experiment

Which = Literal["best", "last"]
Split = Literal["val", "train", "test", "challenge"]
_DEFAULT = InferenceOptions()


class Evaluation(NamedTuple):
    """What a run came to on a split.

    Attributes:
      scores: in [0, 1] by name, None where there is nothing to score; empty for images without annotations.
      counted: what the scores count, in one line.
      written: files, by kind.
    """

    scores: dict[str, float | None]
    counted: str
    written: dict[str, Path]


def eval_command(words: list[str]) -> None:
    """Score a run."""
    tyro.cli(_evaluate_run, args=words, prog="ugs eval")


def _evaluate_run(
    run: tyro.conf.Positional[str],
    which: Which = "best",
    split: Split = "val",
    protocol: ProtocolName = "default",
    calibration: bool = False,
    looks: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Score a run on the images of its config.

    With `--protocol visdrone` results are also written as a submission: a folder of text files and a zip archive. Of
    images without annotations there are no scores: VisDrone's get a submission, other data COCO results.

    Args:
      run: a run folder, or the URL of a run. If it uses classes or functions of yours, add --import MODULE or
        --import FILE.py.
      which: checkpoint.
      split: val: the validation images; train: the training images without augmentation, to measure overfitting; of
        VisDrone also test: test-dev, and challenge: test-challenge, which has no annotations, so that only a submission
        is written.
      protocol: what to count; other than by default, as many detections are kept as the protocol counts.
      calibration: also compare the predicted deviations of sides with their errors, images looked at once; writes
        calibration_best.json and .png.
      looks: how the network looks at images.
    """
    from ugs_jax.runs import read_experiment
    from ugs_jax.runs.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment = read_experiment(opened.folder)
        if calibration:
            _check_calibration(experiment, split)
        found = evaluate_run(opened.folder, which=which, split=split, protocol=protocol, looks=looks)
        _print(found, f"{experiment.name} ({which}, {split})")
        written = found.written
        if calibration:
            written |= write_calibration(opened.folder, which, "train" if split == "train" else "val")
    for what, file in written.items():
        print(f"{what}: {opened.shown(file)}")


def evaluate_run(
    folder: Path,
    *,
    which: Which = "best",
    split: Split = "val",
    protocol: ProtocolName = "default",
    looks: InferenceOptions = _DEFAULT,
) -> Evaluation:
    """Scores a run on the images of its config, and writes the scores and submission into its folder.

    Args:
      folder: of the run.
      which: checkpoint.
      split: of the data set.
      protocol: what to count.
      looks: how the network looks at images.

    Raises:
      FileNotFoundError: no such run or checkpoint.
      ValueError: a split that the data set does not have.
      DataError: images or annotations that cannot be used.
    """
    from ugs_jax.runs import read_experiment

    experiment = read_experiment(folder)
    if split in ("test", "challenge") and not isinstance(experiment.data, VisDrone):
        raise ValueError(
            f"--split {split}: expected a run on VisDrone, which alone has {split}, got one on "
            f"{type(experiment.data).__name__}, which has val and train; leave --split out, or score the detections of "
            "other images with `ugs predict` and `ugs score`"
        )
    data = experiment.data.open(split)
    if not len(data.table.boxes):
        return _detections_only(folder, experiment, which, split, protocol, data, looks)
    scorer = scorer_for(protocol, data, experiment.data)
    _collect(folder, experiment, which, data, scorer, protocol, looks)
    scores = scorer.score()
    written = write_evaluation(folder, _name(which, split, protocol, looks), scorer, scores, data)
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
    """Write what a run finds in images that have no annotations: a submission of VisDrone's, COCO results of others."""
    from ugs_jax.atomic import write_atomically
    from ugs_jax.evaluation import CocoScorer, VisDroneScorer

    if protocol == "visdrone" or isinstance(experiment.data, VisDrone):
        found = VisDroneScorer(data)
        _collect(folder, experiment, which, data, found, "visdrone", looks)
        return Evaluation(
            {}, "", {"submission": write_results(folder, _name(which, split, "visdrone", looks), found, data)}
        )
    scorer = CocoScorer(data)
    _collect(folder, experiment, which, data, scorer, protocol, looks)
    rows = [{"file_name": data.file_names[row["image_id"]], **row} for row in scorer.rows]
    file = folder / f"results_{_name(which, split, protocol, looks)}.json"
    write_atomically(file, json.dumps(rows).encode())
    return Evaluation({}, "", {"results": file})


def _name(which: Which, split: Split, protocol: ProtocolName, looks: InferenceOptions) -> str:
    """What of an evaluation its files are named by: the checkpoint, and all that is not as usual."""
    parts = [which, "" if split == "val" else split, "" if protocol == "default" else protocol, looks.describe()]
    return "_".join(part for part in parts if part)


def write_calibration(folder: Path, which: Which, split: Literal["val", "train"]) -> dict[str, Path]:
    """Writes `calibration_<checkpoint>.json` and `.png` into a run's folder; returns them by kind.

    Args:
      folder: of the run.
      which: checkpoint.
      split: of the data set.

    Raises:
      ValueError: no detection matches an object.
    """
    from ugs_jax.analysis import measure_calibration
    from ugs_jax.atomic import write_atomically
    from ugs_jax.report import plot_calibration

    found = measure_calibration(folder, which=which, split=split)
    file = folder / f"calibration_{which}{'' if split == 'val' else f'_{split}'}.json"
    values = {
        "unit": "px of the stored images; root mean squares over the sides of a bin",
        "factor": found.factor,
        "predicted": found.predicted.tolist(),
        "error": found.error.tolist(),
        "count": found.count.tolist(),
    }
    write_atomically(file, json.dumps(values, indent=1).encode())
    return {"calibration": file, "picture": plot_calibration(found, file.with_suffix(".png"))}


def _print(found: Evaluation, title: str) -> None:
    if found.scores:
        print_scores(found.scores, title, found.counted)
    else:
        print(f"{title}: there is nothing to score, for the images have no annotations")


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
) -> None:
    """Give a scorer the detections of all images."""
    from ugs_jax.runs import image_detector, load_for_inference
    from ugs_jax.training import jit_detect
    from ugs_jax.training.evaluate import detections

    detector, state, mesh = load_for_inference(folder, experiment, which=which)
    options = looks.postprocess(room_for(protocol, experiment.postprocess))
    if not looks.one_look:
        _collect_looks(image_detector(detector, state, options), experiment, data, scorer, looks)
        return
    detect = jit_detect(detector, options, mesh)
    batches = detections(detect, state.ema_params, state.ema_stats, data, experiment.loader, mesh, images=False)
    for found, batch in batches:
        scorer.add_batch(found, batch)


def _collect_looks(
    detect: Any,
    experiment: "Experiment",
    data: Dataset,
    scorer: "CocoScorer | VisDroneScorer",
    looks: InferenceOptions,
) -> None:
    """Image by image: in tiles, mirrored, at several scales."""
    from data_pipeline.decoding.images import decode_image
    from ugs_jax.evaluation import coco_rows
    from ugs_jax.inference import detect_image

    size = experiment.loader.image_size
    for index in range(len(data)):
        example = data[index]
        try:
            if index in data.unreadable:
                raise DataError(data.unreadable[index])
            image = decode_image(example.image, example.file_name)
        except DataError as error:
            if experiment.loader.strict:
                raise
            print(f"{error} It is left out.", file=sys.stderr)
            continue
        scorer.add(coco_rows(index, detect_image(detect, image, size, tiling=looks.tiling, augmented=looks.augmented)))
