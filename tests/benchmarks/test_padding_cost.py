import json

import pytest
import tyro

from experiments.benchmarks import padding_cost
from tests.compiling import compiled_quickly
from tests.training.toy import toy_detector_with
from ugs_jax.experiment import fitting

pytestmark = pytest.mark.slow

SMALL = [
    "--size",
    "p",
    "--no-p2",
    "--image-size",
    "128",
    "128",
    "--batch-size",
    "2",
    "--objective",
    "ciou",
    "--repeats",
    "2",
    "--warmup",
    "1",
    "--batches",
    "1",
]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr(fitting, "detector_with", toy_detector_with)


def measure(*rooms):
    with compiled_quickly():
        padding_cost.main(tyro.cli(padding_cost.Rooms, args=[*SMALL, "--rooms", *map(str, rooms)]))


def test_the_last_line_is_json_with_ratios_to_the_smallest_padding(capsys):
    measure(400, 30)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result["rooms"]) == ["30", "400"]
    smallest, largest = result["rooms"].values()
    assert smallest["processor_ratio"] == smallest["memory_ratio"] == 1.0
    assert largest["memory_ratio"] > 1.0
    assert 0 < result["most_boxes"] <= 30


def test_padding_to_fewer_boxes_than_an_image_has_is_refused():
    with pytest.raises(ValueError, match=r"--rooms: expected at least \d+, the boxes of one of the images, got 1"):
        measure(1, 40)
