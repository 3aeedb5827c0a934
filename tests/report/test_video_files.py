"""Frames of videos in files of detections, and videos with boxes."""

import cv2
import numpy as np
import pytest

from tests.report.found import BOXES, dataset, found, frames, results, write
from ugs_jax.report import Frame


def test_frames_are_images_of_their_own_with_number_and_time(tmp_path):
    written = write(tmp_path, [found("a.jpg"), *frames(2)], "coco", "yolo", "visdrone")
    assert (written.images, written.videos, written.frames, written.boxes) == (1, 1, 2, 6)
    last = results(tmp_path)[-1]
    assert (last["image_id"], last["file_name"], last["frame"], last["time"]) == ("clip/000001", "clip.mp4", 1, 0.04)
    assert dataset(tmp_path)["images"][-1] == {
        "id": 3,
        "file_name": "clip/000001.jpg",
        "width": 200,
        "height": 100,
        "video": "clip.mp4",
        "frame": 1,
        "time": 0.04,
    }
    assert (tmp_path / "yolo/labels/clip/000001.txt").is_file()
    assert (tmp_path / "visdrone/clip_000001.txt").is_file()


def test_a_video_becomes_a_video_with_boxes(tmp_path):
    clips = [*frames(5, "b/clip.mov"), *frames(3, "clip.avi"), found("clip.jpg")]
    write(tmp_path, clips, "coco", pictures=True)
    assert [image["picture"] for image in dataset(tmp_path)["images"]] == [
        *["b_clip.mp4"] * 5,
        *["clip.mp4"] * 3,
        "clip-2.png",
    ]
    for name, count in (("b_clip.mp4", 5), ("clip.mp4", 3)):
        capture = cv2.VideoCapture(str(tmp_path / name))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25)
        pictures = []
        while (read := capture.read())[0]:
            pictures.append(read[1])
        capture.release()
        assert len(pictures) == count
        assert pictures[0].shape == (136, 200, 3)
        changed = np.abs(pictures[0][:100].astype(int) - 90).max(-1) > 40
        assert changed[18:47, 8].all()  # the left line of the first box, just outside
        assert not changed[22:43, 13:27].any()  # inside it
        assert (pictures[0][104:, :3] > 200).all()  # the legend's paper


def test_frames_of_odd_sides_can_be_written(tmp_path):
    odd = np.full((51, 75, 3), 90, np.uint8)
    for rate in (23.976043, 0.0, 1e6):
        predictions = [found("c.mp4", image=odd, boxes=BOXES[:1], frame=Frame(k, k / 24, rate)) for k in range(2)]
        write(tmp_path, predictions, "coco", pictures=True)
        capture = cv2.VideoCapture(str(tmp_path / "c.mp4"))
        assert capture.read()[1].shape == (88, 76, 3)
        capture.release()
