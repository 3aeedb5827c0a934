"""Videos that OpenCV writes, read frame by frame; damaged, cut and empty ones."""

import itertools

import cv2
import numpy as np
import pytest

from data_pipeline import DataError
from data_pipeline.decoding import videos
from data_pipeline.decoding.videos import is_video, video_frames

CODECS = [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.mov", "mp4v")]


def write_video(path, codec="mp4v", count=12, rate=10.0, noise=False):
    """Frames of 64 × 48 px: red grows by 20 a frame, green is 200, blue 10. With noise they are large files."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    assert writer.isOpened()
    rng = np.random.default_rng(0)
    for number in range(count):
        image = np.full((48, 64, 3), (10, 200, 20 * number), np.uint8)  # BGR
        writer.write(rng.integers(0, 256, image.shape, np.uint8) if noise else image)
    writer.release()
    return path


@pytest.mark.parametrize(("name", "codec"), CODECS)
def test_frames_come_in_order_with_number_time_and_rate(tmp_path, name, codec):
    frames = list(video_frames(write_video(tmp_path / name, codec)))
    assert [frame.number for frame in frames] == list(range(12))
    assert {frame.rate for frame in frames} == {10.0}
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(12) / 10, atol=1e-3)
    for frame in frames:
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        np.testing.assert_allclose(frame.image.mean((0, 1)), (20 * frame.number, 200, 10), atol=6)  # lossy codecs


class Endless:
    """A capture without end and without time stamps, which counts what is read."""

    opened, read_frames = 1, 0

    def __init__(self, path):
        pass

    def isOpened(self):  # noqa: N802
        return True

    def getBackendName(self):  # noqa: N802
        return "FFMPEG"

    def get(self, name):
        return {cv2.CAP_PROP_FPS: 0.0, cv2.CAP_PROP_POS_MSEC: 0.0}[name]

    def read(self):
        Endless.read_frames += 1
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self):
        Endless.opened -= 1


def test_only_the_frames_that_are_used_are_read(tmp_path, monkeypatch):
    (tmp_path / "endless.mp4").write_bytes(b"x")
    monkeypatch.setattr(videos.cv2, "VideoCapture", Endless)
    frames = video_frames(tmp_path / "endless.mp4")
    seconds = [frame.seconds for frame in itertools.islice(frames, 3)]
    assert Endless.read_frames == 3
    np.testing.assert_allclose(seconds, [0, 1 / 25, 2 / 25])  # 25 frames per second where the file does not say it
    frames.close()
    assert Endless.opened == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"bad\.mp4: expected a video, got 0 bytes\. Fix: copy the file again"),
        (b"no video", r"bad\.mp4: expected a video, got a file that OpenCV cannot open.*Fix: .*ffmpeg -i bad\.mp4"),
        (None, r"bad\.mp4: expected a video file, found none"),
    ],
)
def test_files_that_are_no_videos_are_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "bad.mp4").write_bytes(content)
    with pytest.raises(DataError, match=message):
        next(video_frames(tmp_path / "bad.mp4"))


def test_a_video_without_its_index_is_named(tmp_path):
    data = write_video(tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.mp4: expected a video, got a file that OpenCV cannot open"):
        next(video_frames(tmp_path / "cut.mp4"))


def test_of_a_video_that_is_cut_off_the_first_frames_are_read_and_the_rest_is_named(tmp_path):
    data = write_video(tmp_path / "whole.avi", "MJPG", count=40, noise=True).read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    frames = []
    with pytest.raises(DataError, match=r"cut\.avi: expected the 40 frames that its header announces, got 1\d: the"):
        frames.extend(video_frames(tmp_path / "cut.avi"))


def test_pictures_and_texts_are_no_videos(tmp_path):
    cv2.imwrite(str(tmp_path / "img01.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "img02.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("notes\n" * 50)
    assert not any(is_video(path) for path in tmp_path.iterdir())
    assert is_video(write_video(tmp_path / "clip.avi", "MJPG").rename(tmp_path / "clip.dat"))
