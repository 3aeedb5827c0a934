"""A diagnosis on disk, as JSON."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ugs_jax.atomic import write_atomically
from ugs_jax.evaluation.curves import Curve
from ugs_jax.evaluation.reliability import Reliability
from ugs_jax.inference import Calibration
from ugs_jax.report.diagnosis import ClassDiagnosis, Diagnosis, Outcome, SizeDiagnosis, WorstImage
from ugs_jax.report.run_log import RunError


def write_diagnosis(path: Path, diagnosis: Diagnosis) -> Path:
    """Write a diagnosis as a JSON file, replaced atomically, and return its path.

    Args:
      path: JSON file.
      diagnosis: Diagnosis from `diagnose`.
    """
    write_atomically(path, (json.dumps(_plain(diagnosis), ensure_ascii=False, allow_nan=False) + "\n").encode())
    return path


def read_diagnosis(path: Path) -> Diagnosis | None:
    """Return the diagnosis in a JSON file, or None if there is no such file.

    Raises:
      RunError: The file is malformed.
    """
    if not path.is_file():
        return None
    try:
        return _diagnosis(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise RunError(
            f"{path}: expected a diagnosis of `ugs train` or `ugs eval --plots`, got {type(error).__name__}: {error}; "
            "delete the file, then write it again by `ugs eval RUN --plots`"
        ) from error


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _diagnosis(value: Any) -> Diagnosis:
    deviations, names = value["deviations"], len(value["classes"])
    confusion = tuple(tuple(int(count) for count in row) for row in value["confusion"])
    if {len(confusion), *map(len, confusion)} != {names + 1}:
        raise ValueError(f"expected {names + 1} rows and columns of the confusion matrix")
    return Diagnosis(
        measured=str(value["measured"]),
        images=int(value["images"]),
        confidence=float(value["confidence"]),
        overall=_class(value["overall"]),
        classes=tuple(_class(part) for part in value["classes"]),
        sizes=tuple(
            SizeDiagnosis(
                str(part["name"]),
                float(part["low"]),
                math.inf if part["high"] is None else float(part["high"]),
                int(part["objects"]),
                int(part["found"]),
            )
            for part in value["sizes"]
        ),
        confusion=confusion,
        worst=tuple(_worst(part) for part in value["worst"]),
        reliability=Reliability(**_arrays(value["reliability"])),
        deviations=None if deviations is None else Calibration(**_arrays(deviations)),
    )


def _class(value: Any) -> ClassDiagnosis:
    numbers = {name: _number(value[name]) for name in ("ap50", "best_confidence", "precision", "recall", "f1")}
    curve = Curve(**_arrays(value["curve"]))
    if len({len(part) for part in curve}) != 1:
        raise ValueError("expected a curve with columns of one length")
    return ClassDiagnosis(name=str(value["name"]), objects=int(value["objects"]), curve=curve, **numbers)


def _worst(value: Any) -> WorstImage:
    counts = {name: int(value[name]) for name in ("image", "right", "confused", "missed", "false")}
    outcomes = tuple(
        Outcome(str(part["kind"]), _box(part["box"]), str(part["name"]), _text(part["truth"]), _number(part["score"]))
        for part in value["outcomes"]
    )
    return WorstImage(file_name=str(value["file_name"]), outcomes=outcomes, **counts)


def _arrays(value: Any) -> dict[str, Any]:
    return {name: _array(part) for name, part in value.items()}


def _array(value: Any) -> Any:
    if not isinstance(value, list):
        return math.nan if value is None else float(value)
    if all(isinstance(item, int) for item in value):
        return np.array(value, np.int64)
    return np.array([math.nan if item is None else float(item) for item in value])


def _box(value: Any) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(side) for side in value)
    return left, top, right, bottom


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
