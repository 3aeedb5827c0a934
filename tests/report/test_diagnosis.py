"""Diagnosis of known detections, its file and its pictures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.report.diagnosed import CLASSES, FILES, dataset, found
from ugs_jax.inference import calibration, side_errors
from ugs_jax.report import RunError, diagnose, plot_diagnosis, read_diagnosis, write_diagnosis, write_worst_images
from ugs_jax.report.plots.colors import IGNORED, OUTCOMES
from ugs_jax.report.worst_images import worst_files

# By hand. Of all classes together, in order of the scores: .95 ignored, .9 right, .85 wrong, .8 right, .7 right, .6
# wrong (a car where a person is), .55 right. There are 6 objects. F1 = 2 · right / (counted + 6).
F1 = [2 / 7, 2 / 8, 4 / 9, 6 / 10, 6 / 11, 8 / 12]


@pytest.fixture(scope="module")
def diagnosis():
    return diagnose(dataset(), found(), "three images")


def test_the_confidence_has_the_highest_f1_of_all_classes_together(diagnosis):
    assert diagnosis.confidence == np.float32(0.55)
    np.testing.assert_allclose(diagnosis.overall.curve.f1, F1)
    assert diagnosis.overall.f1 == pytest.approx(8 / 12)
    assert (diagnosis.overall.precision, diagnosis.overall.recall) == (pytest.approx(4 / 6), pytest.approx(4 / 6))
    assert diagnosis.overall.best_confidence == diagnosis.confidence


def test_classes_have_their_own_numbers_and_a_class_without_objects_has_none(diagnosis):
    car, person, boat = diagnosis.classes
    assert (car.name, car.objects, person.objects, boat.objects) == (CLASSES[0], 3, 3, 0)
    # Cars: .9 and .7 right, .6 wrong, of 3 objects. Persons: .85 wrong, .8 and .55 right, of 3.
    assert (car.precision, car.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert car.best_confidence == np.float32(0.7)
    assert car.ap50 == pytest.approx(67 / 101)  # precision 1 at the recalls 0, .01, …, .66
    assert person.ap50 == pytest.approx(67 / 101 * 2 / 3)
    assert (boat.ap50, boat.precision, boat.recall, boat.f1, boat.best_confidence) == (None,) * 5


def test_objects_are_counted_by_size_and_found_or_not(diagnosis):
    counts = {size.name: (size.objects, size.found) for size in diagnosis.sizes}
    # √area: 6, 12, 20, 6, 10 and 10 px; missed are the second of 6 px and the first of 10 px.
    assert counts["very_tiny"] == (2, 1)
    assert counts["tiny"] == (3, 2)
    assert counts["small"] == (1, 1)
    assert counts["medium"] == counts["coco_large"] == (0, 0)


def test_the_worst_image_is_first_and_images_without_errors_are_left_out(diagnosis):
    (worst,) = diagnosis.worst
    assert (worst.image, worst.file_name) == (1, FILES[1])
    assert (worst.right, worst.confused, worst.missed, worst.false) == (1, 1, 1, 1)
    kinds = {outcome.kind: outcome for outcome in worst.outcomes}
    assert kinds["missed"].box == (40, 0, 46, 6)
    assert (kinds["confused"].name, kinds["confused"].truth) == (CLASSES[0], CLASSES[1])
    assert kinds["false"].truth is None
    assert diagnosis.confusion == ((2, 0, 0, 1), (1, 2, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0))


def test_deviations_are_calibrated_on_the_matches_of_each_image(diagnosis):
    data = dataset()
    errors = [side_errors(image, data.annotations(i).boxes, data.annotations(i).classes) for i, image in found()]
    expected = calibration(errors)
    assert diagnosis.deviations.factor == pytest.approx(expected.factor)
    np.testing.assert_allclose(np.sort(diagnosis.deviations.error), np.sort(expected.error))
    assert diagnose(data, found(deviation=False)).deviations is None


def test_scores_are_compared_with_precision(diagnosis):
    # As float32, .9 and .7 lie just below the border of their bins. So .9 right, .85 wrong and .8 right are in one bin,
    # .7 right and .6 wrong in another, .55 right in a third. The ignored .95 does not count.
    gaps = [3 * (0.85 - 2 / 3), 2 * (0.65 - 0.5), 1 * (1 - 0.55)]
    assert diagnosis.reliability.error == pytest.approx(sum(gaps) / 6, abs=1e-6)
    assert diagnosis.reliability.count.sum() == 6


@pytest.mark.parametrize("images", [[], [(0, found()[0][1]._replace(classes=np.int32([2, 2, 2])))]])
def test_without_a_right_detection_there_is_a_diagnosis_too(images, tmp_path):
    nothing = diagnose(dataset(), images)
    assert nothing.confidence == 0.25
    assert sum(row[-1] for row in nothing.confusion[:-1]) == 6 - sum(sum(row[:-1]) for row in nothing.confusion[:-1])
    assert nothing.deviations is None
    assert read_diagnosis(write_diagnosis(tmp_path / "d.json", nothing)).confusion == nothing.confusion
    assert len(plot_diagnosis(nothing, tmp_path)) == 4


def test_a_diagnosis_is_read_back_as_it_was_written(diagnosis, tmp_path):
    path = write_diagnosis(tmp_path / "diagnosis_best.json", diagnosis)
    again = read_diagnosis(path)
    assert path.read_bytes() == write_diagnosis(tmp_path / "again.json", again).read_bytes()
    assert again.worst == diagnosis.worst
    assert again.sizes == diagnosis.sizes
    np.testing.assert_array_equal(again.classes[1].curve.envelope, diagnosis.classes[1].curve.envelope)
    assert read_diagnosis(tmp_path / "missing.json") is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"measured": 1}', "null", '{"deviations": {}}'])
def test_a_malformed_file_is_named(tmp_path, content):
    path = tmp_path / "diagnosis_best.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"diagnosis_best\.json: expected a diagnosis .*write it again by `ugs eval RUN"):
        read_diagnosis(path)


@pytest.mark.parametrize("key", ["classes", "confusion", "reliability", "worst", "overall"])
def test_a_malformed_part_is_refused(tmp_path, diagnosis, key):
    path = write_diagnosis(tmp_path / "d.json", diagnosis)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: [[7]]}))
    with pytest.raises(RunError, match=r"d\.json: expected a diagnosis"):
        read_diagnosis(path)


def test_pictures_of_the_worst_images_show_every_outcome_in_its_colour(tmp_path, diagnosis):
    (tmp_path / "worst_best").mkdir()
    (tmp_path / "worst_best" / "9.jpg").write_bytes(b"of an earlier diagnosis")
    write_worst_images(tmp_path, "best", diagnosis, dataset())
    (file,) = (tmp_path / "worst_best").iterdir()
    assert file.name == "1.jpg"
    picture = np.asarray(Image.open(file)).astype(int)
    assert picture.shape == (600, 800, 3)
    for outcome in diagnosis.worst[0].outcomes:
        left, top, right, _ = (round(10 * side) for side in outcome.box)
        line = picture[max(top - 2, 0) : top + 3, (left + right) // 2]  # just above the box, or below it at the border
        distance = np.abs(line - OUTCOMES[outcome.kind][0]).sum(-1).min()
        assert top == 0 or distance < 60, outcome  # JPEG
    assert IGNORED not in [color for color, _ in OUTCOMES.values()]


def test_pictures_are_not_written_or_read_through_links(tmp_path, diagnosis):
    other = tmp_path / "other"
    other.mkdir()
    (other / "1.jpg").write_bytes(b"of the user")
    (tmp_path / "worst_best").symlink_to(other)
    with pytest.raises(RunError, match="worst_best: expected a folder, found a link; delete it"):
        write_worst_images(tmp_path, "best", diagnosis, dataset())
    assert (other / "1.jpg").read_bytes() == b"of the user"
    assert worst_files(tmp_path, "best", diagnosis) == [None]


def test_an_image_that_cannot_be_read_has_no_picture(tmp_path, diagnosis):
    data = dataset()
    write_worst_images(tmp_path, "best", diagnosis, replace(data, images=[b"", b"", b""]))
    assert worst_files(tmp_path, "best", diagnosis) == [None]


def test_plots_show_the_numbers(tmp_path, diagnosis, figures):
    files = plot_diagnosis(diagnosis, tmp_path / "plots")
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "confusion.png", "deviations.png", "f1.png", "precision_recall.png", "reliability.png",
    ]  # fmt: skip
    by_name = dict(zip(files, figures, strict=True))
    texts = [text.get_text() for text in by_name["confusion"].axes[0].texts]
    assert texts == ["2", "1", "1", "2", "1"]
    _, _, overall = [line for line in by_name["f1"].axes[0].lines if len(line.get_xdata()) > 2]
    np.testing.assert_allclose(overall.get_ydata(), F1)
    assert any("all classes 0.67 at 0.55" in text.get_text() for text in by_name["f1"].axes[0].texts)
