"""A COCO folder of three small images, and how tests write and change it."""

import json

import cv2
import numpy as np

from data_pipeline import CocoJson

HEIGHT, WIDTH = 24, 32

CONTENT = {
    "images": [
        {"id": 7, "file_name": "b.png", "height": HEIGHT, "width": WIDTH},
        {"id": 3, "file_name": "sub/a.jpg", "height": HEIGHT, "width": WIDTH},
        {"id": 9, "file_name": "empty.png"},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 4, "bbox": [5.5, 6.25, 7, 8]},
        {"id": 3, "image_id": 3, "category_id": 4, "bbox": [10, 10, 12, 6], "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "dog"}, {"id": 4, "name": "cat"}],
}


def write_image(path, height=HEIGHT, width=WIDTH, dtype=np.uint8, channels=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)
    assert cv2.imwrite(str(path), pixels)


def write(folder, content, name="train.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return CocoJson(folder / "images", path, folder / "images", path)


def open_with(folder, **changes):
    return write(folder, {**CONTENT, **changes}).open("train", folder / "cache")


def annotation(**changes):
    return {"id": 50, "image_id": 7, "category_id": 4, "bbox": [1, 1, 2, 2], **changes}
