"""Experiments whose data set is cut into tiles, and the whole images behind such a data set."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from data_pipeline import DataSource, Tiles

if TYPE_CHECKING:
    from ugs_jax.experiment import Experiment


def with_tiles(
    default: "Experiment",
    experiment: "Experiment",
    tile: tuple[int] | tuple[int, int] | None,
    changes: Mapping[str, Any],
) -> "Experiment":
    """Return an experiment whose data set is cut into tiles of the size of the network's input.

    Args:
      default: Experiment before changes by the command line.
      experiment: Experiment. If its data set is already `Tiles`, they are changed.
      tile: Height and width of a tile, px, or one number for both. None leaves the experiment unchanged.
      changes: Other fields of `Tiles` by name; None for the value of the config, or the default.

    Raises:
      ValueError: There is a change without a tile, or a number is out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if tile is None:
        for name in given:
            flag = f"--tile-{name.replace('_', '-')}"
            raise ValueError(f"{flag}: expected it together with --tile, got no --tile; add --tile 640")
        return experiment
    size, data, loader = (tile[0], tile[-1]), experiment.data, experiment.loader
    cut = replace(data, tile=size, **given) if isinstance(data, Tiles) else Tiles(data, size, **given)
    if loader.image_size == default.loader.image_size:
        loader = replace(loader, image_size=size)
    return replace(experiment, data=cut, loader=loader)


def whole_images(data: DataSource) -> DataSource:
    """Return the data set of whole images that `Tiles` cuts, and any other data set unchanged."""
    return data.data if isinstance(data, Tiles) else data


def scored_data(data: DataSource, split: str, protocol: str, *, tiled: bool) -> DataSource:
    """Return the data set that `ugs eval` scores: whole images, or the tiles that a run is validated on.

    Args:
      data: Data set of the run.
      split: Split to score.
      protocol: Scoring protocol.
      tiled: Images are cut into tiles by the inference, so that the data set must have whole images.

    Raises:
      ValueError: The split or the protocol is about whole images, and the run is validated on tiles.
    """
    if not isinstance(data, Tiles):
        return data
    if tiled or (data.val == "whole" and split != "train"):
        return data.data
    if protocol == "visdrone" or split in ("test", "challenge"):
        about = "--protocol visdrone" if protocol == "visdrone" else f"--split {split}"
        raise ValueError(f"{about}: expected whole images, got a run on tiles; add {inference_flags(data)}")
    return data


def whole_image_note(data: DataSource, run: str, split: str = "val") -> str | None:
    """Return a sentence that tells how to score whole images, or None if a run is scored on whole images anyway.

    Args:
      data: Data set of the run.
      run: Folder of the run.
      split: Split that was scored.
    """
    if not isinstance(data, Tiles) or (data.val == "whole" and split != "train"):
        return None
    height, width = data.size
    flags = inference_flags(data) + ("" if split == "val" else f" --split {split}")
    return f"These scores are of tiles of {width} × {height} px. On whole images: ugs eval {run} {flags}"


def inference_flags(data: Tiles) -> str:
    """Return the flags of `ugs eval` and `ugs predict` that cut images into the tiles of training."""
    height, width = data.size
    tile = f"{height}" if height == width else f"{height} {width}"
    return f"--tile {tile} --overlap {data.overlap:g}{'' if data.whole else ' --no-full-image'}"
