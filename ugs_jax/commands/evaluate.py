"""`ugs eval`: scores, submission and calibration of a run or of a file of weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro

from data_pipeline import DataError, Dataset, DataSource, VisDrone
from ugs_jax.commands.calibration import check_calibration, write_calibration
from ugs_jax.commands.collect import collect_detections
from ugs_jax.commands.evaluated_source import label_of, on_data, opened_source
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.commands.score import ProtocolName, print_scores, scorer_for, write_evaluation, write_results
from ugs_jax.commands.source_options import SourceOptions
from ugs_jax.commands.tiled_data import scored_data, whole_image_note, whole_images

if TYPE_CHECKING:
    from ugs_jax.evaluation import ImageDetections
    from ugs_jax.runs import LoadedDetector

Which = Literal["best", "last"]
Split = Literal["val", "train", "test", "challenge"]
_DEFAULT = InferenceOptions()
_UNCHANGED = SourceOptions()


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
    """Run `ugs eval`: score a run on the images of its config, or a run or a file of weights on other images."""
    tyro.cli(_evaluate_run, args=words, prog="ugs eval")


def _evaluate_run(
    run: tyro.conf.Positional[str],
    which: Which = "best",
    split: Split = "val",
    protocol: ProtocolName = "default",
    calibration: bool = False,
    plots: bool = False,
    data: Path | None = None,
    ignore_classes: tuple[str, ...] = (),
    output: Path | None = None,
    source: Annotated[SourceOptions, tyro.conf.arg(name="")] = _UNCHANGED,
    looks: Annotated[InferenceOptions, tyro.conf.arg(name="")] = _DEFAULT,
) -> None:
    """Score a run on the images of its config, or a run or a file of weights on other images.

    Classes of `--data` are matched by name with those of the detector.

    A run on `Tiles` is scored on its validation tiles, and with `--tile` on whole images.

    With `--protocol visdrone` the detections are also written as a submission: a folder of text files and a zip
    archive. Images without annotations cannot be scored. For those of VisDrone a submission is written, for others a
    file of COCO results.

    Args:
      run: Run folder, file of weights (.pt or .safetensors), or URL of one of them. If a run uses classes or functions
        of yours, add `--import MODULE` or `--import FILE.py`.
      which: Checkpoint of a run.
      split: Split of the data set. val: the validation images. train: the training images without augmentation, to
        measure overfitting. test: test-dev of VisDrone, or the test images of a data.yaml. challenge: test-challenge of
        VisDrone, which has no annotations, so that only a submission is written.
      protocol: Scoring protocol. Protocols other than the default keep as many detections as they count.
      calibration: Also compare the predicted standard deviations of box sides with the actual errors, without tiles and
        test-time augmentation. The result is written to calibration_best.json and .png.
      plots: Also write report.html, with precision, recall and F1 over the confidence, confusion, the worst images and
        calibration; the same plots as PNG files; and the numbers as diagnosis_best.json.
      data: Images to score on: a data.yaml of YOLO, an annotation file of COCO, or the folder of a data set. The
        default is the data set of the run. A file of weights needs it.
      ignore_classes: Names of classes of `--data` whose boxes are regions to ignore, such as `"ignored regions"`.
      output: Folder for the results. The default is the folder of the run, or `evaluation` for a file of weights.
      source: Image size and class names.
      looks: Tiles, test-time augmentation and postprocessing.
    """
    from ugs_jax.runs import read_experiment
    from ugs_jax.runs.remote.weights_file import is_weights_file

    is_file = is_weights_file(run)
    if calibration and (is_file or data is not None or output is not None):
        raise ValueError(
            "--calibration: expected a run on its own images, got a file of weights, --data or --output; leave "
            "--calibration out"
        )
    if ignore_classes and data is None:
        raise ValueError("--ignore-classes: expected --data with it, got none; the data set of a run ignores its own")
    with opened_source(run, which, output) as (opened, place):
        if calibration:
            check_calibration(read_experiment(opened.folder), split)
        model = source.load(place, which)
        parts = [model.name if is_file else which, "" if data is None else label_of(data), source.describe()]
        evaluation = evaluate_model(
            model if data is None else on_data(model, data, ignore_classes),
            opened.folder,
            "_".join(part for part in parts if part),
            split=split,
            protocol=protocol,
            looks=looks,
            plots=plots,
        )
        _print(evaluation, f"{model.experiment.name} ({split if is_file else f'{which}, {split}'})")
        if data is None and looks.tile is None and (note := whole_image_note(model.experiment.data, run, split)):
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
    from ugs_jax.runs import load

    model = load(folder, which=which)
    return evaluate_model(model, folder, which, split=split, protocol=protocol, looks=looks, plots=plots)


def evaluate_model(
    model: "LoadedDetector",
    folder: Path,
    name: str,
    *,
    split: Split = "val",
    protocol: ProtocolName = "default",
    looks: InferenceOptions = _DEFAULT,
    plots: bool = False,
) -> Evaluation:
    """Score a detector on the data set of its experiment. Write the scores and the submission into a folder.

    Args:
      model: Detector from `load`. Its classes are matched by name with those of the data set.
      folder: Folder of the results.
      name: Name of the detector in the names of the results.
      split: Split of the data set.
      protocol: Scoring protocol.
      looks: Tiles, test-time augmentation and postprocessing.
      plots: Also write a report with plots, from the same detections.

    Returns:
      The scores and the written files.

    Raises:
      ValueError: The data set does not have the split.
      DataError: Images or annotations cannot be used, or no class of the detector is in the data set.
    """
    from ugs_jax.report import write_evaluation_report
    from ugs_jax.runs import with_classes

    source = scored_data(model.experiment.data, split, protocol, tiled=looks.tile is not None)
    data = _split(source, split)
    model = with_classes(model, data.classes)
    if not len(data.table.boxes):
        return _detections_only(model, folder, name, split, protocol, data, looks)
    scorer, name = scorer_for(protocol, data, source), _name(name, split, protocol, looks)
    found: list[tuple[int, ImageDetections]] = []
    collect_detections(model, data, scorer, protocol, looks, found if plots else None)
    scores = scorer.score()
    written = write_evaluation(folder, name, scorer, scores, data)
    if plots:
        written |= write_evaluation_report(folder, name, data, found, scores, scorer.describe())
    return Evaluation(scores, scorer.describe(), written)


def _split(source: DataSource, split: Split) -> Dataset:
    try:
        return source.open(split)
    except DataError:
        raise
    except ValueError as error:
        raise ValueError(
            f"--split {split}: expected a split of the data set, {type(source).__name__}, got: {error} Leave --split "
            "out, or score the detections of other images with --data"
        ) from error


def _detections_only(
    model: "LoadedDetector",
    folder: Path,
    name: str,
    split: Split,
    protocol: ProtocolName,
    data: Dataset,
    looks: InferenceOptions,
) -> Evaluation:
    """Write the detections in images without annotations: a submission for VisDrone, COCO results for other data."""
    from ugs_jax.atomic import write_atomically
    from ugs_jax.evaluation import CocoScorer, VisDroneScorer

    if protocol == "visdrone" or isinstance(whole_images(model.experiment.data), VisDrone):
        submission = VisDroneScorer(data)
        collect_detections(model, data, submission, "visdrone", looks)
        file = write_results(folder, _name(name, split, "visdrone", looks), submission, data)
        return Evaluation({}, "", {"submission": file})
    scorer = CocoScorer(data)
    collect_detections(model, data, scorer, protocol, looks)
    rows = [{"file_name": data.file_names[row["image_id"]], **row} for row in scorer.rows]
    file = folder / f"results_{_name(name, split, protocol, looks)}.json"
    write_atomically(file, json.dumps(rows).encode())
    return Evaluation({}, "", {"results": file})


def _name(name: str, split: Split, protocol: ProtocolName, looks: InferenceOptions) -> str:
    """Return the name of the detector and all settings that are not defaults, as a part of file names."""
    parts = [name, "" if split == "val" else split, "" if protocol == "default" else protocol, looks.describe()]
    return "_".join(part for part in parts if part)


def _print(evaluation: Evaluation, title: str) -> None:
    if evaluation.scores:
        print_scores(evaluation.scores, title, evaluation.counted)
    else:
        print(f"{title}: no scores, because the images have no annotations")
