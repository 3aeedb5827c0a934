"""Detections of a whole data set for `ugs eval`: in batches, or one image at a time with tiles and augmentation."""

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipeline import DataError, Dataset
from ugs_jax.commands.inference_options import InferenceOptions
from ugs_jax.commands.score import ProtocolName, room_for

if TYPE_CHECKING:
    from ugs_jax.evaluation import CocoScorer, ImageDetections, VisDroneScorer
    from ugs_jax.experiment import Experiment
    from ugs_jax.runs import LoadedDetector


def collect_detections(
    model: "LoadedDetector",
    data: Dataset,
    scorer: "CocoScorer | VisDroneScorer",
    protocol: ProtocolName,
    looks: InferenceOptions,
    found: "list[tuple[int, ImageDetections]] | None" = None,
) -> None:
    """Add the detections in all images to a scorer, and to `found` if it is given."""
    from ugs_jax.evaluation import split_batch
    from ugs_jax.runs import image_detector
    from ugs_jax.training import jit_detect
    from ugs_jax.training.evaluate import detections

    options = looks.postprocess(room_for(protocol, model.postprocess))
    if not looks.one_look:
        _collect_looks(
            image_detector(model.detector, model.state, options), model.experiment, data, scorer, looks, found
        )
        return
    detect = jit_detect(model.detector, options, model.mesh)
    most = int(np.max(np.diff(data.table.box_start), initial=1))
    loader = replace(model.experiment.loader, max_boxes=most, box_buckets=())  # scoring uses the boxes of `data`
    batches = detections(detect, model.params, model.stats, data, loader, model.mesh, images=False)
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
