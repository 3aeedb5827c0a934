"""The command `ugs predict`: boxes of image files, as a whole or in tiles."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import tyro


def predict_command(words: list[str]) -> None:
    """Detect objects in image files."""
    tyro.cli(_predict_images, args=words, prog="ugs predict")


def _predict_images(
    run: tyro.conf.Positional[str],
    images: tyro.conf.Positional[tuple[Path, ...]],
    output: Path = Path("predictions"),
    threshold: float = 0.25,
    which: Literal["best", "last"] = "best",
    tile: tuple[int] | tuple[int, int] | None = None,
    overlap: float = 0.2,
    merge: Literal["nmm", "nms"] = "nmm",
    metric: Literal["ios", "iou"] = "ios",
    merge_threshold: float = 0.5,
    full_image: bool = True,
    tile_batch: int = 8,
    min_score: float = 0.05,
    flip: bool = False,
    scales: tuple[float, ...] = (1.0,),
    voting: float | None = None,
) -> None:
    """Detect objects in image files; write predictions.json and one picture for each image.

    Args:
      run: a run folder, or the URL of a run.
      images: image files, or folders of them.
      output: folder to write.
      threshold: least score of a box in the pictures; the JSON holds all.
      which: checkpoint.
      tile: look at images in tiles of this height and width, px (one number: square); images are taken as a whole
        otherwise.
      overlap: least share of a tile that its neighbour has too; an object up to that long is whole in one tile.
      merge: what is found twice becomes one by greedy non-maximum merging, or by suppression.
      metric: overlap is intersection over the smaller box, or over the union.
      merge_threshold: boxes that overlap by more are one.
      full_image: with tiles, look at the whole image too.
      tile_batch: tiles at a time.
      min_score: with tiles, boxes that score no more are dropped before merging.
      flip: look at mirror images too, and fuse the boxes.
      scales: of the network's input to look at, such as 1 0.83; boxes are fused.
      voting: variance voting, about 0.02: boxes move towards those they suppress, weighted by how sure their sides are.
    """
    from ugs_jax.evaluation import write_predictions
    from ugs_jax.inference import Augmented, Merge, Tiling
    from ugs_jax.training import RunFolder, load_for_inference, predict_files, read_experiment
    from ugs_jax.training.remote.opened import opened_run

    with opened_run(run, which) as opened:
        experiment, classes = read_experiment(opened.folder), RunFolder(opened.folder).read_classes()
        detector, state, _ = load_for_inference(opened.folder, experiment, which=which)
    if voting is not None:
        experiment = replace(experiment, postprocess=replace(experiment.postprocess, voting=voting))
    tiling = tile and Tiling(
        (tile[0], tile[-1]), overlap, tile_batch, full_image, min_score, Merge(merge, metric, merge_threshold)
    )
    found = predict_files(
        detector, state, experiment, images, tiling=tiling, augmented=Augmented(flip=flip, scales=scales)
    )
    print(f"boxes: {write_predictions(output, found, classes, threshold)}")
