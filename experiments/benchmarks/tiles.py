"""AP of a run on scenes larger than its training images: resized as a whole, in tiles, and with flipped images.

    python -m experiments.benchmarks.tiles RUN [--side 480] [--images 16]

RUN is a run on `TinyScenes`, such as `runs/compare/UGS-seed0` of `ugs compare`. The scenes have objects of the same
sizes. Tiles are merged in several ways.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from data_pipeline import Dataset, TinyScenes
from data_pipeline.decoding.images import decode_image
from ugs_jax.evaluation import CocoScorer, ImageDetections, coco_rows
from ugs_jax.evaluation.detections import concatenate
from ugs_jax.inference import ImageDetector, Merge, TestTimeAugmentation, Tiling, detect_image, merge, tile_windows
from ugs_jax.inference.passes import View, run_pass
from ugs_jax.inference.tiles import Window
from ugs_jax.runs import image_detector, load_for_inference, read_experiment

Look = Callable[[np.ndarray], ImageDetections]


def main(run: tyro.conf.Positional[Path], side: int = 480, images: int = 16) -> None:
    """Print a table in Markdown.

    Args:
      run: Run folder.
      side: Side of the scenes, px.
      images: Number of scenes.
    """
    experiment = read_experiment(run)
    if not isinstance(experiment.data, TinyScenes):
        raise ValueError(f"{run}: expected a run on TinyScenes, got {type(experiment.data).__name__}")
    detector, state, _ = load_for_inference(run, experiment)
    detect = image_detector(detector, state, experiment.postprocess)
    scenes = replace(experiment.data, image_size=(side, side), train_images=1, val_images=images).open("val")
    print(f"{images} scenes of {side}² px, {sum(len(scenes.annotations(i).boxes) for i in range(images))} objects\n")
    print("| input | AP | AP50 | AP75 | boxes |\n|---|---|---|---|---|")
    for name, look in _looks(detect, experiment.loader.image_size):
        scores, count = _score(scenes, look)
        shown = " | ".join(f"{100 * (scores[key] or 0.0):.1f}" for key in ("ap", "ap50", "ap75"))
        print(f"| {name} | {shown} | {count} |")


def _looks(detect: ImageDetector, size: tuple[int, int]) -> Iterator[tuple[str, Look]]:
    yield "whole image, resized", partial(detect_image, detect, size=size)
    for full_image in (True, False):
        for options in (Merge("nmm"), Merge("nms"), Merge("nms", "iou", 0.6)):
            tiling = Tiling(size, 0.25, full_image=full_image, merge=options)
            name = f"tiles{' and whole image' if full_image else ''}, `{options.method}`, `{options.metric}`"
            yield name, partial(detect_image, detect, size=size, tiling=tiling)
    tiling = Tiling(size, 0.25, merge=Merge("nms"))
    flipped = partial(detect_image, detect, size=size, tiling=tiling, augmented=TestTimeAugmentation(flip=True))
    yield "tiles and whole image, `nms`, `ios`, `--flip`", flipped
    yield "tiles and whole image, every box extended (SAHI's rule)", partial(_every_box_extended, detect, size)


def _every_box_extended(detect: ImageDetector, size: tuple[int, int], image: np.ndarray) -> ImageDetections:
    view, shape = View(size), image.shape[:2]
    tiles, _ = run_pass(detect, image, tile_windows(*shape, size, 0.25), view, 8, 0.05)
    whole, _ = run_pass(detect, image, [Window(0, 0, *shape)], view, 1, 0.05)
    return merge(concatenate([tiles, whole]), Merge("nmm"))


def _score(scenes: Dataset, look: Look) -> tuple[dict[str, float | None], int]:
    scorer = CocoScorer(scenes)
    for i in range(len(scenes)):
        scorer.add(coco_rows(i, look(decode_image(scenes[i].image, f"scene {i}"))))
    return scorer.score(), len(scorer.rows)


if __name__ == "__main__":
    tyro.cli(main)
