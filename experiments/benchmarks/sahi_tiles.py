"""A detector of `benchmarks.prediction` as a model of SAHI, which cuts an image into tiles and merges detections."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction
from sahi.utils.compatibility import fix_full_shape_list, fix_shift_amount_list

from ugs_jax.inference import Tiling

Found = Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]


class SahiModel(DetectionModel):
    """Model of SAHI that calls a function from images to detections."""

    def __init__(self, detect: Callable[[np.ndarray], Found], tiling: Tiling) -> None:
        self.detect, self.size = detect, tiling.tile
        super().__init__(model=detect, confidence_threshold=tiling.min_score, device="cpu")

    def set_model(self, model: Any, **_: Any) -> None:
        """Take the model as it is."""
        self.model, self.category_mapping = model, {str(i): str(i) for i in range(1000)}

    def perform_inference(self, image: np.ndarray) -> None:
        """Detect on one image."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[np.ndarray]) -> None:
        """Detect on a batch of images, which are resized where they are no tiles."""
        self.scales = [image.shape[0] / self.size[0] for image in images]
        height, width = self.size
        same = [i if i.shape[:2] == self.size else cv2.resize(i, (width, height)) for i in images]
        self._original_predictions = self.detect(np.stack(same))

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        shifts, shapes = fix_shift_amount_list(shift_amount_list), fix_full_shape_list(full_shape_list)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=(box * scale).tolist(),
                    category_id=int(label),
                    category_name=str(label),
                    score=float(score),
                    shift_amount=shifts[i],
                    full_shape=shapes[i],
                )
                for box, score, label in zip(*found, strict=True)
                if score > self.confidence_threshold
            ]
            for i, (found, scale) in enumerate(zip(self._original_predictions, self.scales, strict=True))
        ]


def detect_tiles(model: SahiModel, image: np.ndarray, tiling: Tiling) -> int:
    """Return the number of detections in tiles of an image and in the image as a whole."""
    found = get_sliced_prediction(
        image,
        model,
        *tiling.tile,
        tiling.overlap,
        tiling.overlap,
        perform_standard_pred=tiling.full_image,
        batch_size=tiling.batch,
        verbose=0,
    )
    return len(found.object_prediction_list)
