"""Forty photos of a harbour as a user has them: a YOLO folder with small objects, five faults and a video."""

import shutil
from pathlib import Path

import cv2
import numpy as np

CLASSES = ("boat", "buoy", "person")
SIZE = (720, 1280)
TRAIN, VAL = 37, 3
WITH_OBJECTS, OBJECTS = 14, 12  # photos with objects, objects in each
FRAMES = 2  # of the video

FAULTY_ROWS = {  # of labels/train/NAME.txt, line 2: the row, and what has to be said of it
    "003": ("7 0.5 0.5 0.01 0.02", "expected a class from 0 to 2, as data.yaml has 3, got 7"),
    "007": (
        "0 1.5 0.5 0.01 0.02",
        "expected coordinates from 0 to 1 (px divided by the image's width or height), got 1.5",
    ),
    "010": ("boat 0.5 0.5 0.01 0.02", "expected numbers separated by spaces, got 'boat'"),
    "013": ("1 0.5 0.5 0.01 0.02 0.87", "expected `class cx cy w h`, or a polygon `class x y x y x y …`, got 6 values"),
}
COPIED, COPY = "images/train/005.jpg", "images/val/other_name.jpg"
BACKGROUND = "images/train/030.jpg"  # without a label file


def write_harbour(folder: Path) -> Path:
    """Write data.yaml, 40 JPEG files of 1280 × 720 px and their labels, of which five have a fault.

    Args:
      folder: Folder to write.

    Returns:
      Path of data.yaml.
    """
    for split, count in (("train", TRAIN), ("val", VAL - 1)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            name = f"{number if split == 'train' else 100 + number:03d}"
            empty = number >= WITH_OBJECTS  # open water
            picture, rows = draw_photo(np.random.default_rng([number, split == "val"]), 0 if empty else OBJECTS)
            cv2.imwrite(str(folder / "images" / split / f"{name}.jpg"), picture)
            if split == "train" and name in FAULTY_ROWS:
                rows.insert(1, FAULTY_ROWS[name][0])
            if f"images/{split}/{name}.jpg" != BACKGROUND:
                (folder / "labels" / split / f"{name}.txt").write_text("".join(f"{row}\n" for row in rows))
    for image, copy in ((COPIED, COPY), (_labels(COPIED), _labels(COPY))):
        shutil.copy(folder / image, folder / copy)
    yaml = folder / "data.yaml"
    yaml.write_text(f"train: images/train\nval: images/val\nnames: [{', '.join(CLASSES)}]\n")
    return yaml


def draw_photo(rng: np.random.Generator, objects: int) -> tuple[np.ndarray, list[str]]:
    """Return water (BGR) with objects of 6 to 20 px in one corner of it, and their rows in YOLO format."""
    height, width = SIZE
    coarse = rng.integers(0, 40, (height // 40, width // 40, 1), np.uint8) + np.uint8([110, 90, 60])
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    picture += rng.integers(0, 12, (height, width, 1), np.uint8)
    left, top = rng.integers(10, width - 140), rng.integers(10, height - 110)
    rows = []
    for cell in rng.permutation(4 * 3)[:objects]:  # cells of 30 px: no two objects overlap
        label = int(rng.integers(3))
        w, h = rng.integers(6, 21, 2)
        x, y = left + 30 * (cell % 4) + rng.integers(5), top + 30 * (cell // 4) + rng.integers(5)
        _draw_object(picture, label, x, y, w, h)
        box = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
        rows.append(" ".join([str(label), *(f"{value:.6f}" for value in box)]))
    return picture, rows


def write_video(path: Path) -> Path:
    """Write a video of the harbour."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, SIZE[::-1])
    for number in range(FRAMES):
        writer.write(draw_photo(np.random.default_rng(200 + number), OBJECTS)[0])
    writer.release()
    return path


def _draw_object(picture: np.ndarray, label: int, x: int, y: int, w: int, h: int) -> None:
    if label == 0:  # a white boat with a dark deck
        picture[y : y + h, x : x + w] = 235
        picture[y + h // 3 : y + h - h // 3, x + w // 3 : x + w - w // 3] = 30
    elif label == 1:  # an orange buoy
        axes = (w // 2, h // 2)
        cv2.ellipse(picture, (x + w // 2, y + h // 2), axes, 0, 0, 360, (20, 130, 250), -1)
    else:  # a person in a dark suit with a red vest
        picture[y : y + h, x : x + w] = (25, 20, 15)
        picture[y : y + h // 2, x : x + w] = (40, 30, 210)


def _labels(image: str) -> str:
    return image.replace("images", "labels").replace(".jpg", ".txt")
