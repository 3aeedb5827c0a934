"""The command `ugs score`: scores of predictions of any program, by any protocol."""

import json as json_format
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from data_pipeline import Dataset, VisDrone
from ugs_jax.atomic import write_atomically
from ugs_jax.commands.score_cases import Case, coco_case, visdrone_case
from ugs_jax.evaluation.benchmarks import BENCHMARKS
from ugs_jax.evaluation.coco import CocoScorer
from ugs_jax.evaluation.scorers import (
    CROSS_CHECK,
    VisDroneScorer,
    describe_visdrone,
    visdrone_truth,
    with_coco,
)
from ugs_jax.evaluation.submission import write_submission
from ugs_jax.evaluation.visdrone import CAPS, visdrone_scores, visdrone_table

if TYPE_CHECKING:
    from ugs_jax.detectors import Postprocess

ProtocolName = Literal["default", "visdrone", "coco", "aitod", "sodad", "tinyperson"]


def score_command(words: list[str]) -> None:
    """Run `ugs score`: score predictions of any program."""
    tyro.cli(_score, args=words, prog="ugs score")


def _score(
    predictions: tyro.conf.Positional[Path],
    truth: Path,
    protocol: ProtocolName | None = None,
    images: Path | None = None,
    split: str = "val",
    ignore_classes: tuple[str, ...] = (),
    json: bool = False,
) -> None:
    """Score predictions of any program against their ground truth.

    Args:
      predictions: JSON file of COCO results, or a folder or zip archive in VisDrone's submission format.
      truth: JSON file of COCO annotations, a data.yaml (YOLO), or a folder of VisDrone's annotation files, or its
        parent folder.
      protocol: Scoring protocol. The default is coco for COCO files, and visdrone for files of VisDrone.
      images: Folder of VisDrone's images, for their sizes only. The default is the folder `images` next to the
        annotations. If it is missing too, every box is taken to lie inside its image.
      split: Split of a data.yaml that the predictions are of.
      ignore_classes: Names of classes in the truth whose boxes are regions to ignore, such as `"ignored regions"`. They
        get no score, and detections of them are left out.
      json: Print the scores as JSON.
    """
    if truth.is_dir():
        if ignore_classes:
            raise ValueError(
                "--ignore-classes: expected the truth in a COCO file or a data.yaml, got a folder of VisDrone, whose "
                "categories 0 and 11 are always ignored; leave --ignore-classes out"
            )
        case, name = visdrone_case(predictions, truth, images), protocol or "visdrone"
    else:
        case, name = coco_case(predictions, truth, split, ignore_classes), protocol or "coco"
    scores, description = score_case(case, name)
    if json:
        print(json_format.dumps({"protocol": description, **scores}, indent=1))
    else:
        print_scores(scores, f"{predictions} ({name})", description)


def score_case(case: Case, protocol: ProtocolName) -> tuple[dict[str, float | None], str]:
    """Return the scores by a protocol, and a description of the protocol."""
    scorer = CocoScorer(case.coco_truth, CROSS_CHECK if protocol == "visdrone" else BENCHMARKS[protocol])
    scorer.add([row for row in case.rows if 1 <= row["category_id"] <= len(case.classes)])
    if protocol != "visdrone":
        return scorer.score(), scorer.describe()
    official = visdrone_scores(visdrone_table(case.truth, case.rows, len(case.classes)), case.classes)
    return with_coco(official, scorer.score()), describe_visdrone()


def scorer_for(protocol: ProtocolName, data: Dataset, source: Any) -> CocoScorer | VisDroneScorer:
    """Return the scorer of a protocol for the detections of a run.

    Args:
      protocol: Scoring protocol.
      data: Data set with the images.
      source: Source that `data` was opened from. VisDrone's protocol reads the annotation files of a `VisDrone`.
    """
    if protocol != "visdrone":
        return CocoScorer(data, BENCHMARKS[protocol])
    if not isinstance(source, VisDrone):
        return VisDroneScorer(data)
    folder = source.annotation_folder(data.split)
    sizes = [(int(height), int(width)) for height, width in data.table.sizes]
    return VisDroneScorer(data, visdrone_truth([folder / f"{name}.txt" for name in image_names(data)], sizes))


def room_for(protocol: ProtocolName, options: "Postprocess") -> "Postprocess":
    """Return options that keep at least as many detections as a protocol counts.

    The default protocol uses the options of the run, unchanged.
    """
    if protocol == "default":
        return options
    most = CAPS[-1] if protocol == "visdrone" else BENCHMARKS[protocol].max_detections
    kept = max(options.max_detections, most)
    return replace(options, max_detections=kept, pre_nms_topk=max(options.pre_nms_topk, kept))


def write_evaluation(
    folder: Path,
    name: str,
    scorer: CocoScorer | VisDroneScorer,
    scores: dict[str, float | None],
    data: Dataset,
) -> dict[str, Path]:
    """Write `evaluation_<name>.json` and, for VisDrone's protocol, a submission. Return the files by kind."""
    file = folder / f"evaluation_{name}.json"
    write_atomically(file, json_format.dumps({"protocol": scorer.describe(), **scores}, indent=1).encode())
    if not isinstance(scorer, VisDroneScorer):
        return {"scores": file}
    return {"scores": file, "submission": write_results(folder, name, scorer, data)}


def write_results(folder: Path, name: str, scorer: VisDroneScorer, data: Dataset) -> Path:
    """Write `submission_<name>`, with a text file for each image, and return its zip archive."""
    return write_submission(folder / f"submission_{name}", image_names(data), scorer.rows)


def image_names(data: Dataset) -> list[str]:
    """Return a unique name for each image: without suffix, with folders joined by underscores, and numbered if needed.

    For `x.png` and `x.jpg`, the first keeps the name `x`, and the second is named `x-2`.
    """
    plain = [Path(name).with_suffix("").as_posix().replace("/", "_") for name in data.file_names]
    taken, names = set(plain), list[str]()
    first: set[str] = set()
    for name in plain:
        number, unused = 1, name
        while unused in first or (number > 1 and unused in taken):
            number += 1
            unused = f"{name}-{number}"
        first.add(unused)
        names.append(unused)
    return names


def print_scores(scores: dict[str, float | None], title: str, description: str) -> None:
    """Print the mean scores, the scores of each class next to each other (in percent), and a description."""
    from rich.console import Console
    from rich.table import Table

    def cell(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.2f}"

    means, classes = Table(), Table(title="by class")
    for column in ("score", "%"):
        means.add_column(column, justify="left" if column == "score" else "right")
    keys = list(dict.fromkeys(key.partition("/")[0] for key in scores if "/" in key))
    names = list(dict.fromkeys(key.partition("/")[2] for key in scores if "/" in key))
    for key, value in scores.items():
        if "/" not in key:
            means.add_row(key, cell(value))
    classes.add_column("class")
    for key in keys:
        classes.add_column(key, justify="right")
    for name in names:
        classes.add_row(name, *(cell(scores.get(f"{key}/{name}")) for key in keys))
    console = Console()
    console.print(title, style="italic", highlight=False, markup=False, soft_wrap=True)
    console.print(means)
    if names:
        console.print(classes)
    console.print(description, style="dim", highlight=False)
