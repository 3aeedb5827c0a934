"""Search for the inference settings of a run: box voting, penalty for spread, predicted quality, NMS threshold.

    python -m experiments.benchmarks.inference_settings RUN [RUN …] [--json-file FILE]

The network processes every validation image once. Its candidates are then suppressed and scored with each setting. One
setting is varied at a time, starting from the best values of the settings before it, so that every objective gets as
many trials as it has settings.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from data_pipeline import Batch, eval_batches
from ugs_jax.detectors import LocalizedCandidates, Postprocess, suppress
from ugs_jax.evaluation import CocoScorer
from ugs_jax.runs.loading import load_for_inference
from ugs_jax.runs.run_folder import read_experiment

TRIALS: dict[str, tuple[Any, ...]] = {
    "spread_penalty": (0.0, 2.0, 4.0, 8.0, 16.0),
    "quality_power": (0.0, 0.25, 0.5, 1.0, 2.0),
    "voting": (None, 0.01, 0.02, 0.05),
    "votes": ("deviation", "score"),
    "iou_threshold": (0.5, 0.6, 0.7),
}
"""Values of each setting, in the order in which they are tried."""


def measure(run: Path, which: str = "best") -> list[dict[str, Any]]:
    """Return AP, AP50 and AP75 of a run on its validation images for every trial."""
    experiment = read_experiment(run)
    detector, state, _ = load_for_inference(run, experiment, which=which)
    data = experiment.data.open("val")
    find = jax.jit(
        lambda images: detector.candidates(
            state.ema_params, state.ema_stats, images, experiment.postprocess.pre_nms_topk
        )
    )
    outputs = [(jax.device_get(find(batch.images)), batch) for batch in eval_batches(data, experiment.loader)]
    scorer = CocoScorer(data)
    example = outputs[0][0]
    rows: list[dict[str, Any]] = []
    best = experiment.postprocess
    for name, options in _trials(example, best):
        if name == "votes" and best.voting is None:
            continue
        tried = []
        for value in options:
            setting = replace(best, **{name: value})
            row = {"setting": name, "value": value, **_score(setting, outputs, scorer)}
            rows.append(row)
            tried.append((row["ap"] or 0.0, setting))
            print(f"{run.name:32} {name:15} {value!s:6} {_percent(row)}", flush=True)
        best = max(tried, key=lambda pair: pair[0])[1]
    return rows


def _trials(example: LocalizedCandidates, start: Postprocess) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, values in TRIALS.items():
        missing = {
            "spread_penalty": example.spread is None,
            "quality_power": example.quality is None,
            "votes": example.deviation is None,
        }
        if missing.get(name):
            continue
        first = getattr(start, name)
        yield name, (first, *(value for value in values if value != first))


def _score(
    setting: Postprocess, outputs: list[tuple[LocalizedCandidates, Batch]], scorer: CocoScorer
) -> dict[str, float | None]:
    run = jax.jit(partial(suppress, options=setting))
    scorer.reset()
    for candidates, batch in outputs:
        scorer.add_batch(jax.tree.map(np.asarray, run(candidates)), batch)
    scores = scorer.score()
    return {name: value for name, value in scores.items() if name.startswith("ap")}


def _percent(row: dict[str, Any]) -> str:
    return " ".join(f"{name} {100 * (row[name] or 0):5.2f}" for name in ("ap", "ap50", "ap75"))


def main(runs: tyro.conf.Positional[tuple[Path, ...]], json_file: Path | None = None) -> None:
    """Try inference settings on finished runs.

    Args:
      runs: Run folders.
      json_file: File for all scores.
    """
    rows = {run.name: measure(run) for run in runs}
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
