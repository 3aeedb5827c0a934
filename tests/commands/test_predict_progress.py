from itertools import count

import numpy as np

from ugs_jax.commands.predict import _with_progress
from ugs_jax.evaluation import ImageDetections
from ugs_jax.report import Frame, Prediction


def test_a_line_every_ten_seconds_says_how_far_a_video_is(capsys):
    nothing = ImageDetections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    image = np.zeros((4, 4, 3), np.uint8)
    frames = [Prediction("flight.mp4", image, nothing, Frame(i, i / 25, 25.0)) for i in range(10)]
    clock = count(0.0, 4.0)  # four seconds an image
    assert list(_with_progress(frames, lambda: next(clock))) == frames
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "flight.mp4, frame 3 at 0.1 s; 3 images done, 0.25 images/s",
        "flight.mp4, frame 6 at 0.2 s; 6 images done, 0.25 images/s",
        "flight.mp4, frame 9 at 0.3 s; 9 images done, 0.25 images/s",
    ]
