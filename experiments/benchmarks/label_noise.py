"""Noise of the labels of HIT-UAV, and the AP that it allows.

    python -m experiments.benchmarks.label_noise FOLDER [RUN …]

Objects that stand still are seen in neighbouring frames of a video, and labelled anew in every frame. They are found
again by the shift that brings most of them into place. An affine map is fitted to their centres, because the camera
moves. Half of the variance of what is left between two labels is the noise of one. A detector cannot know it: it is
part of the error of every box, whatever the detector. Persons may move between frames, which counts as noise here.

With runs, the boxes of their right detections are replaced by the labels with as much noise, as a detector without an
error of its own would predict them. Scores and false detections stay as they are.
"""

import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from jaxtyping import Float

from experiments.benchmarks.ap_limits import ap_percent, detect

FRAMES = 3
"""Largest number of frames between two images that are compared."""
REACH = 4.0  # px by which an object may be off the common shift
FEWEST = 6
"""Least number of objects that have to agree on a shift."""


def differences(folder: Path) -> dict[int, Float[np.ndarray, "n 4"]]:
    """Return differences between two labels of the same object, by category id.

    Args:
      folder: Folder of HIT-UAV with `annotations/`.

    Returns:
      Shifts of the centre (x, y) over the mean side, and the logarithms of the ratios of width and height.
    """
    found: dict[int, list[Any]] = defaultdict(list)
    for frames in _sequences(folder):
        for (first, old), (second, new) in itertools.pairwise(frames):
            if second - first <= FRAMES:
                for label, difference in _still(old, new):
                    found[label].append(difference)
    return {label: np.array(rows) for label, rows in sorted(found.items())}


def _sequences(folder: Path) -> list[list[tuple[int, Float[np.ndarray, "n 5"]]]]:
    """Return frame numbers and objects (category id, left, top, width, height) of every sequence, in order."""
    sequences = defaultdict(list)
    for split in ("train", "val"):
        content = json.loads((folder / "annotations" / f"{split}.json").read_text())
        rows = defaultdict(list)
        for entry in content["annotations"]:
            if not entry.get("iscrowd") and not entry.get("ignore"):
                rows[entry["image_id"]].append((entry["category_id"], *entry["bbox"]))
        for image in content["images"]:
            name, _, frame = Path(image["file_name"]).stem.rpartition("_")
            sequences[name].append((int(frame), np.array(rows[image["id"]], float).reshape(-1, 5)))
    return [sorted(frames, key=lambda pair: pair[0]) for frames in sequences.values()]


def _still(old: Float[np.ndarray, "n 5"], new: Float[np.ndarray, "m 5"]) -> list[tuple[int, Any]]:
    """Return the objects that move with most of the image: category id, and difference between the two labels."""
    center = [part[:, 1:3] + part[:, 3:] / 2 for part in (old, new)]
    shift = center[1] - center[0][:, None]
    same = old[:, 0][:, None] == new[:, 0]
    agree = lambda common: same & (np.abs(shift - common).max(axis=-1) < REACH)  # noqa: E731
    counts = [(min(agree(one).any(0).sum(), agree(one).any(1).sum()), *one) for one in shift[same]]
    if not counts:
        return []
    common = np.array(max(counts)[1:])
    apart = np.where(agree(common), np.abs(shift - common).max(axis=-1), np.inf)
    pairs = [(i, j) for i, j in enumerate(apart.argmin(axis=1)) if apart[i, j] < REACH and apart[:, j].argmin() == i]
    if len(pairs) < FEWEST:
        return []
    first, second = (list(index) for index in zip(*pairs, strict=True))
    place = np.column_stack([center[0][first], np.ones(len(pairs))])
    moved = place @ np.linalg.lstsq(place, center[1][second], rcond=None)[0]
    free = np.sqrt(len(pairs) / (len(pairs) - 3))  # three numbers for each axis are fitted
    side = np.sqrt(old[first, 3:].prod(axis=1))[:, None]
    rows = np.column_stack([free * (center[1][second] - moved) / side, np.log(new[second, 3:] / old[first, 3:])])
    return list(zip(old[first, 0].astype(int).tolist(), rows, strict=True))


def ap_with_label_noise(run: Path, noise: dict[int, Float[np.ndarray, "n 4"]], which: str, seeds: int = 3) -> float:
    """Return AP in % if the right detections of a run were off their labels by the noise of a label alone."""
    detected, objects, scorer = detect(run, which)
    matched, results = np.nonzero(detected.objects >= 0)[0], []
    for seed in range(seeds):
        rng, boxes = np.random.default_rng(seed), detected.found.boxes.copy()
        for row in matched:
            truth = objects.boxes[detected.objects[row]]
            dx, dy, dw, dh = rng.choice(noise[int(detected.found.classes[row]) + 1]) / np.sqrt(2)
            size = truth[2:] * np.exp([dw, dh])
            center = truth[:2] + truth[2:] / 2 + np.sqrt(truth[2:].prod()) * np.array([dx, dy])
            boxes[row] = *(center - size / 2), *size
        results.append(ap_percent(detected.found._replace(boxes=boxes), np.ones(len(boxes), bool), scorer))
    return float(np.mean(results))


def main(
    folder: tyro.conf.Positional[Path], runs: tyro.conf.Positional[tuple[Path, ...]] = (), which: str = "last"
) -> None:
    """Measure the noise of the labels of HIT-UAV.

    Args:
      folder: Folder of HIT-UAV with `annotations/`.
      runs: Run folders whose AP would be with label noise as their only error of boxes.
      which: Checkpoint of the runs, best or last.
    """
    noise = differences(folder)
    print("noise of one label: root mean square of the centre (x, y) in sides, and of log w, log h")
    for label, rows in noise.items():
        rms = np.sqrt(np.square(rows).mean(axis=0) / 2)
        print(f"  category {label}: {len(rows):4} pairs ", *(f"{value:.3f}" for value in rms))
    for run in runs:
        print(f"{run.name}: AP with no other error of boxes {ap_with_label_noise(run, noise, which):.1f}", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
