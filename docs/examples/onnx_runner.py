"""Detect objects in an image with an exported model: python onnx_runner.py MODEL.onnx IMAGE."""

import json
import sys

import cv2
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
image = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
sides, size = np.array(image.shape[:2]), np.array(about["image_size"])
scale = float(np.float32((size / sides).min()))
if "tile" in about and (sides > about["tile"]).any():
    print(f"trained on tiles of {about['tile']} px: cut larger images into tiles first", file=sys.stderr)
fitted = cv2.resize(image, None, None, scale, scale, cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
top, left = (size - fitted.shape[:2]) // 2
canvas = np.full((1, *size, 3), about["padding_value"], np.uint8)
canvas[0, top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
names = ["boxes", "scores", "classes", "count"]
boxes, scores, classes, count = (result[0] for result in session.run(names, {"images": canvas}))
boxes = np.clip((boxes - [left, top, left, top]) / scale, 0, [*sides[::-1], *sides[::-1]])
for box, score, label in zip(boxes[:count], scores[:count], classes[:count], strict=True):
    bbox = np.append(box[:2], box[2:] - box[:2])  # as in COCO: left, top, width, height
    if (bbox[2:] > 0).all():  # not wholly in the padding
        print(json.dumps({"class": about["class_names"][label], "score": float(score), "bbox": bbox.round(2).tolist()}))
