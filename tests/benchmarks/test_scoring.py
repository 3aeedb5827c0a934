"""Scoring benchmark: its synthetic data are as documented, and the timed code gives the right scores.

Times are measured by the benchmark only: experiments/results/scoring.md.
"""

import json

import numpy as np
import pytest

from data_pipeline.sources.visdrone import read_columns
from experiments.benchmarks import scoring
from tests.reference import visdrone_by_hand

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("scoring")
    scoring.write_case(place, scoring.Settings(images=60))
    return place


def test_the_last_line_is_json_with_the_seconds_of_every_part(capsys):
    scoring.main(scoring.Settings(images=6, objects=30, detections=50))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    for part in ("reading", "visdrone", "coco", "ugs_score"):
        assert result[f"{part}_seconds"] > 0
        assert result[f"{part}_processor_seconds"] > 0
    assert (result["images"], result["detections"]) == (6, 50)


def rows_of(file):
    return [tuple(map(float, line.split(",")[:6])) for line in file.read_text().splitlines()]


def test_the_timed_scores_equal_those_of_the_plain_reference(tmp_path, capsys):
    settings = scoring.Settings(images=5, objects=12, detections=30, seed=1)
    scoring.write_case(tmp_path, settings)
    files = sorted((tmp_path / "annotations").glob("*.txt"))
    beyond = (scoring.HEIGHT + 400, scoring.WIDTH + 400)  # of the images, whose sizes the benchmark does not know
    images = [(rows_of(file), rows_of(tmp_path / "results" / file.name), beyond) for file in files]
    assert any(row[5] == 0 for truth, *_ in images for row in truth)
    scoring.main(settings)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = visdrone_by_hand.scores(images, 10)
    assert {key: result[key] for key in ("ap", "ar500")} == pytest.approx(
        {key: expected[key] for key in ("ap", "ar500")}, abs=1e-9
    )


def test_number_sizes_and_classes_of_objects_are_as_documented(folder):
    files = [read_columns(file) for file in sorted((folder / "annotations").glob("*.txt"))]
    objects = np.concatenate([rows[rows[:, 5] > 0] for rows in files])
    assert len(objects) / len(files) == pytest.approx(71, rel=0.1)
    assert (objects[:, 2:4] < 26).mean() == pytest.approx(0.5, abs=0.05)
    shares = np.bincount(objects[:, 5].astype(int), minlength=11)[1:] / len(objects)
    # Of 4,300 objects: four standard deviations of the most frequent class.
    np.testing.assert_allclose(shares, scoring.SHARES, atol=0.03)
    assert 0 < np.mean([np.any(rows[:, 5] == 0) for rows in files]) < 0.4  # a fifth of the images has ignored regions


def test_every_image_has_the_requested_detections_best_first_and_two_in_five_near_an_object(folder):
    near = []
    for file in sorted((folder / "results").glob("*.txt")):
        rows = np.array([line.split(",")[:6] for line in file.read_text().splitlines()], float)
        assert len(rows) == 500
        assert np.all(np.diff(rows[:, 4]) <= 0)
        truth = read_columns(folder / "annotations" / file.name)
        objects = truth[truth[:, 5] > 0]
        distance = np.abs(rows[:, None, :2] - objects[None, :, :2]) / objects[None, :, 2:4]
        near.append((distance.max(-1).min(1) < 0.48).mean())  # four standard deviations of how far they are moved
    assert 0.4 <= np.mean(near) < 0.75


def test_the_same_seed_makes_the_same_boxes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        scoring.write_case(tmp_path / name, scoring.Settings(images=2, objects=9, detections=12, seed=3))
    assert (tmp_path / "a" / "results.zip").read_bytes() == (tmp_path / "b" / "results.zip").read_bytes()
    assert len((tmp_path / "a" / "results" / "0000000.txt").read_text().splitlines()) == 12
