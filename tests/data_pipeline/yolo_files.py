"""Small YOLO folders, and how tests write and change them."""

import cv2
import numpy as np

from data_pipeline import YoloFolder

HEIGHT, WIDTH = 24, 32
YAML = "train: images/train\nval: images/val\nnames: [car, person]\n"


def write_image(path, height=HEIGHT, width=WIDTH):
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, np.full((height, width, 3), 90, np.uint8))[1]
    path.write_bytes(encoded.tobytes())


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def yolo_folder(folder, labels=(("a", "0 .5 .5 .25 .5\n"),), yaml=YAML, val=(("v", ""),)):
    """Write data.yaml, and an image with a label file (None for none) for each name in `labels` and `val`."""
    for split, files in (("train", labels), ("val", val)):
        for name, text in files:
            write_image(folder / "images" / split / f"{name}.png")
            if text is not None:
                write_text(folder / "labels" / split / f"{name}.txt", text)
    return YoloFolder(write_text(folder / "data.yaml", yaml))
