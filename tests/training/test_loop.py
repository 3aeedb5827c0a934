"""The training loop: files of a run, resuming to the same result, and stopping with a reason when a run fails."""

import errno
import gzip
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from data_pipeline import CocoJson, DataError, TrainLoader, eval_batches
from tests.data_pipeline.decoding.test_videos import write_video
from tests.training.toy import bits, random_batch, rows, toy_experiment, toy_runs
from ugs_jax.analysis.landscape import measure_landscape
from ugs_jax.cli import main
from ugs_jax.detectors import Postprocess
from ugs_jax.experiment import AdamW, Schedule
from ugs_jax.experiment.serialize import to_json
from ugs_jax.runs import RunFolder, load_for_inference, read_experiment
from ugs_jax.training import NonFiniteError, jit_detect, loop, train
from ugs_jax.training.non_finite import attempt, name_images, write_batch

EXPERIMENT = toy_experiment()
STEPS = 6  # 12 images in batches of 4, 2 epochs


@pytest.fixture(scope="module", autouse=True)
def toy():
    with toy_runs():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return SimpleNamespace(folder=folder, result=train(EXPERIMENT, folder))


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run stopped in its second epoch, after step 4 of 3 a epoch."""
    folder = tmp_path_factory.mktemp("half") / "run"
    train(EXPERIMENT, folder, stop_after=4)
    return folder


def test_a_run_folder_holds_config_metrics_events_checkpoints_pictures_and_report(whole):
    names = {path.name for path in whole.folder.iterdir()}
    assert {"config.json", "metrics.jsonl", "checkpoints", "curves.png", "predictions.png", "report.md"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert {path.name for path in (whole.folder / "checkpoints").iterdir()} == {"best", "checksums", "last"}
    assert read_experiment(whole.folder) == EXPERIMENT


@pytest.mark.slow
def test_the_log_has_curvature_by_size_and_the_command_draws_it_with_spectrum_and_slices(whole, capsys):
    logged = [row for row in rows(whole.folder, "train") if row["curvature_tiny"] is not None]
    assert logged
    assert all(row["box_curvature_tiny"] > 0 and row["gradient_variance_tiny"] >= 0 for row in logged)
    assert main(["curvature", str(whole.folder), "--steps", "3", "--probes", "2"]) == 0
    assert (whole.folder / "curvature.png").stat().st_size > 0
    found = json.loads((whole.folder / "curvature.json").read_text())
    assert found["extremes"]["smallest"] < found["extremes"]["largest"]
    assert np.shape(found["density"]["eigenvalues"]) == (2, 3)
    assert found["slices"]["gradient"]["loss"][10] == pytest.approx(found["loss"], rel=1e-4)
    assert "largest eigenvalue" in capsys.readouterr().out


@pytest.mark.slow
def test_curvature_is_measured_over_batches_with_room_for_different_numbers_of_boxes(whole, tmp_path):
    """With `box_buckets` batches differ in width, and could not be joined."""
    found, small = [], {"steps": 1, "probes": 1, "points": 3}
    for buckets in ((), (9, 11)):
        experiment = replace(EXPERIMENT, loader=replace(EXPERIMENT.loader, max_boxes=16, box_buckets=buckets))
        loader = TrainLoader(experiment.data.open("train"), experiment.loader)
        assert [loader.batch_at(i).mask.shape[1] for i in range(2)] == ([11, 9] if buckets else [16, 16])
        folder = shutil.copytree(whole.folder, tmp_path / f"run{len(buckets)}")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"experiment": to_json(experiment)}))
        found.append(measure_landscape(folder, batches=2, **small))
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-5)


@pytest.mark.slow
def test_the_report_of_a_stopped_run_has_predictions_or_the_reason_why_not(half, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    before = snapshot(folder)
    assert main(["report", str(folder)]) == 0
    new = {"report.md", "report.html", "curves.png", "predictions.png", *(f"worst_best/{i}.jpg" for i in range(4))}
    assert set(snapshot(folder)) == {*before, *new}
    assert before.items() <= snapshot(folder).items()
    assert "epoch 1.3333 of 2" in (folder / "report.md").read_text()
    assert capsys.readouterr().err == ""
    shutil.rmtree(folder / "checkpoints")
    assert main(["report", str(folder)]) == 0
    shown = capsys.readouterr()
    assert "no new predictions: " in shown.err
    assert "checkpoints: expected checkpoints, found none" in shown.err
    assert f"report: {folder}/report.md" in shown.out


def test_metrics_have_a_row_for_every_logged_step_and_every_evaluation(whole):
    assert [row["step"] for row in rows(whole.folder, "train")] == list(range(1, STEPS + 1))
    assert [row["step"] for row in rows(whole.folder, "eval")] == [3, 6]
    assert {"loss", "box", "objectness", "classes", "uncertainty", "learning_rate"} <= set(
        rows(whole.folder, "train")[0]
    )


def test_the_step_that_compiles_has_no_throughput(whole):
    rates = [row["images_per_second"] for row in rows(whole.folder, "timing")]
    assert rates[0] is None
    assert all(rate > 0 for rate in rates[1:])


def test_a_run_stopped_within_an_epoch_and_resumed_is_bit_identical_to_an_uninterrupted_run(whole, half, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    assert not (folder / "report.md").exists()
    resumed = train(EXPERIMENT, folder, resume=True)
    assert bits(resumed.state) == bits(whole.result.state)
    assert (folder / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
    assert (resumed.best, resumed.last) == (whole.result.best, whole.result.last)
    assert (folder / "report.md").exists()


@pytest.mark.slow
def test_a_profile_opens_in_the_standard_viewers(tmp_path):
    # Two steps without an evaluation, whose every call would be in the profile.
    train(replace(EXPERIMENT, evaluate_every=2), tmp_path / "run", profile=True, stop_after=4)
    profile = tmp_path / "run" / "profile"
    (xprof,) = profile.rglob("*.xplane.pb")
    (perfetto,) = profile.rglob("perfetto_trace.json.gz")
    assert xprof.stat().st_size > 0
    with gzip.open(perfetto) as stream:
        assert json.load(stream)["traceEvents"]


def test_a_run_killed_before_its_first_checkpoint_starts_over_with_clean_metrics(half, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    shutil.rmtree(folder / "checkpoints")
    train(EXPERIMENT, folder, resume=True, stop_after=1)
    assert [row["step"] for row in rows(folder, "train")] == [1]


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_with_a_run_is_not_overwritten(whole):
    before = snapshot(whole.folder)
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        train(EXPERIMENT, whole.folder)
    assert snapshot(whole.folder) == before


def test_a_run_that_another_process_trains_is_unchanged(half, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    holder = RunFolder(folder)
    holder.lock()
    before = snapshot(folder)
    with pytest.raises(BlockingIOError, match="expected no other run here"):
        train(EXPERIMENT, folder, resume=True)
    assert snapshot(folder) == before
    holder.close()


def test_remains_of_a_run_are_not_mixed_into_a_new_one(half, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(half, folder)
    (folder / "config.json").unlink()
    before = snapshot(folder)
    with pytest.raises(FileExistsError, match=r"found metrics\.jsonl without a config\.json"):
        train(EXPERIMENT, folder)
    assert snapshot(folder) == before


def test_resuming_with_another_config_names_the_field(whole):
    changed = replace(EXPERIMENT, optimizer=AdamW(Schedule(0.02, warmup_epochs=0.5)))
    before = snapshot(whole.folder)
    with pytest.raises(ValueError, match=r"optimizer\.schedule\.learning_rate is 0\.01 there and 0\.02 here"):
        train(changed, whole.folder, resume=True)
    assert snapshot(whole.folder) == before


@pytest.fixture(scope="module")
def exploded(tmp_path_factory, toy):
    """A run whose learning rate overflows float32 in the warm-up, and what was raised."""
    folder = tmp_path_factory.mktemp("exploded") / "run"
    experiment = toy_experiment(optimizer=AdamW(Schedule(1e30, warmup_epochs=1)), log_every=2)
    there = []

    def written(*given):
        there.extend(path.name for path in (folder / "checkpoints" / "last").iterdir())
        return write_batch(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_batch", written)
        with pytest.raises(NonFiniteError) as caught:
            train(experiment, folder)
    return SimpleNamespace(folder=folder, error=caught.value, experiment=experiment, there=there)


def test_a_non_finite_step_stops_the_run_and_is_named(exploded):
    bad = int(str(exploded.error).split()[1].rstrip(":"))
    assert 0 <= bad < STEPS
    assert re.search(r"non-finite .*; first in (parameters|outputs|loss|gradient|the update)\b", str(exploded.error))
    assert (exploded.folder / f"non_finite_batch_step_{bad}.npz").exists()


def test_the_offending_batch_is_saved(exploded):
    (file,) = exploded.folder.glob("non_finite_batch_step_*.npz")
    data = exploded.experiment.data.open("train")
    want = TrainLoader(data, exploded.experiment.loader).batch_at(int(file.stem.split("_")[-1]))
    with np.load(file) as saved:
        for name, value in want._asdict().items():
            np.testing.assert_array_equal(saved[name], value, err_msg=name)


def test_the_images_of_the_offending_batch_are_named(exploded):
    (file,) = exploded.folder.glob("non_finite_batch_step_*.npz")
    names = exploded.experiment.data.open("train").file_names
    with np.load(file) as saved:
        batch = SimpleNamespace(**saved)
    assert f"Images of the batch: {', '.join(names[i] for i in batch.image_id)};" in str(exploded.error)
    many = random_batch(20)._replace(image_id=np.arange(20, dtype=np.int32) % 12, valid=np.arange(20) != 0)
    assert name_images(many, names) == f"{', '.join(names[1:9])} and 11 more"


def test_the_last_good_state_is_saved_before_the_batch_which_may_not_fit_on_the_disk(exploded):
    (file,) = exploded.folder.glob("non_finite_batch_step_*.npz")
    assert file.stem.split("_")[-1] in exploded.there
    assert f"the batch is in {file}, the last good state is the run's last checkpoint" in str(exploded.error)

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    assert attempt(full, "the batch", "is in {}").startswith("the batch could not be written ([Errno 28] No space")


def test_the_last_good_state_can_be_restored_after_a_non_finite_step(exploded):
    _, state, _ = load_for_inference(exploded.folder, which="last")
    (file,) = exploded.folder.glob("non_finite_batch_step_*.npz")
    assert int(state.step) == int(file.stem.split("_")[-1])
    assert int(state.bad_step) == -1
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))


def test_inference_needs_no_data_set_and_gives_the_detections_of_the_run(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(whole.folder, folder)
    data = EXPERIMENT.data.open("val")
    with monkeypatch.context() as patch:
        patch.setattr(type(EXPERIMENT.data), "open", lambda *_: pytest.fail("opened the data set"))
        detector, best, mesh = load_for_inference(folder)
        _, last, _ = load_for_inference(folder, EXPERIMENT, which="last")
    scores = [row["ap"] or 0.0 for row in rows(folder, "eval")]
    assert int(best.step) == 3 * (1 + int(np.argmax(scores)))
    assert bits(last) == bits(whole.result.state)
    images = next(eval_batches(data, EXPERIMENT.loader)).images
    detect = jit_detect(detector, EXPERIMENT.postprocess, mesh)
    want = detect(whole.result.state.ema_params, whole.result.state.ema_stats, images)
    assert bits(detect(last.ema_params, last.ema_stats, images)) == bits(want)
    assert np.any(want.valid)


def test_the_command_predicts_in_tiles(whole, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)).save(tmp_path / "image.png")
    words = ["predict", str(whole.folder), str(tmp_path / "image.png"), "--output", str(tmp_path / "found")]
    assert main([*words, "--tile", "96", "64", "--overlap", "0.3", "--merge", "nms", "--min-score", "0", "--flip"]) == 0
    rows = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} == {"image"}
    assert {row["category_id"] for row in rows} <= set(EXPERIMENT.data.open("train").category_ids)
    assert "deviation" not in rows[0]  # of a regression
    shown = capsys.readouterr().out
    above = sum(row["score"] >= 0.25 for row in rows)
    counts = f"{len(rows):,} boxes in 1 image, {above:,} with a score of at least 0.25\n"
    assert f"{counts}coco: {tmp_path / 'found' / 'predictions.json'}\n" in shown
    assert main([*words, "--tile", "100"]) == 1
    assert (
        "Tiling.tile: expected sides that are multiples of 32, got (100, 100); try (128, 128)"
        in capsys.readouterr().err
    )
    assert main([*words, "--voting", "0.02"]) == 0  # by score, for a regression
    assert main([*words, "--spread-penalty", "4"]) == 1
    assert "spread_penalty: expected 0, because BoxRegression predicts no deviations" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_each_format_and_a_video_and_counts_what_it_skips(whole, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (90, 150, 3), np.uint8)).save(photos / name)
    write_video(photos / "c.mp4", count=3, noise=True)
    (photos / "d.jpg").write_bytes(b"")
    formats = [word for name in ("coco", "yolo", "csv", "visdrone") for word in ("--format", name)]
    words = ["predict", str(whole.folder), *formats, "--output", str(tmp_path / "found"), str(photos)]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert " boxes in 2 images and 3 frames of 1 video, " in shown.out
    assert "skipped: 1 file, named above\n" in shown.out
    assert f"skipped: {photos / 'd.jpg'}: expected an image, got 0 bytes" in shown.err
    assert {file.name for file in (tmp_path / "found").iterdir()} == {
        *("predictions.json", "dataset.json", "predictions.csv", "yolo", "visdrone", "visdrone.zip", "summary.json"),
        *("a.png", "b.png", "c.mp4"),
    }
    assert json.loads((tmp_path / "found" / "summary.json").read_text())["skipped"] == 1
    rows = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} <= {"a", "b", "c/000000", "c/000001", "c/000002"}
    keep = str(sorted(row["score"] for row in rows)[-3])
    assert main([*words, "--keep", keep, "--no-pictures"]) == 0
    assert len((tmp_path / "found" / "predictions.csv").read_text().splitlines()) <= 1 + 3
    truth = {
        "images": [
            {"id": k, "file_name": f"val/{name}.png", "width": 150, "height": 90} for k, name in enumerate("ab")
        ],
        "categories": [{"id": k, "name": f"class {k}"} for k in EXPERIMENT.data.open("train").category_ids],
        "annotations": [
            {
                "id": index,
                "image_id": "ab".index(row["image_id"]),
                "category_id": row["category_id"],
                "bbox": row["bbox"],
            }
            for index, row in enumerate(rows, start=1)
            if row["image_id"] in ("a", "b")
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    assert main([*words[:-1], str(photos / "a.png"), str(photos / "b.png"), "--no-pictures"]) == 0
    capsys.readouterr()
    results = str(tmp_path / "found" / "predictions.json")
    assert main(["score", results, "--truth", str(tmp_path / "truth.json"), "--protocol", "default", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ap"] == pytest.approx(1)


@pytest.mark.parametrize("anchors", [None, "big", [[[1, 2, 3]]], [[[0, 4]]]])
def test_damaged_anchors_are_named(anchors, whole, tmp_path):
    config = json.loads((whole.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"anchors": anchors}))
    with pytest.raises(ValueError, match=r'expected "anchors", a list of \(width, height\)'):
        load_for_inference(tmp_path)


@pytest.fixture
def with_bad_images(tmp_path):
    """A COCO folder of twelve images, of which one of the training images and one of the others are cut off."""
    rng, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()
    for name in [f"{split}{i}.jpg" for split, count in (("train", 12), ("val", 4)) for i in range(count)]:
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(images / name)
    for split, count in (("train", 12), ("val", 4)):
        content = {
            "images": [{"id": i, "file_name": f"{split}{i}.jpg", "width": 64, "height": 64} for i in range(count)],
            "categories": [{"id": i, "name": f"class {i}"} for i in range(3)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": i % 3, "bbox": [8 + i, 9, 6, 7]} for i in range(count)
            ],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(content))
        cut = images / f"{split}1.jpg"
        cut.write_bytes(cut.read_bytes()[:-200])
    return toy_experiment(data=CocoJson(images, tmp_path / "train.json", images, tmp_path / "val.json"))


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_counted_and_stops_only_a_strict_run(with_bad_images, tmp_path, caplog):
    folder = tmp_path / "run"
    train(with_bad_images, folder)
    counts = [row["unreadable_images"] for row in rows(folder, "timing")]
    assert counts == sorted(counts)
    assert counts[-1] >= 2  # once an epoch, and in mosaics
    assert len(rows(folder, "eval")) == 2
    for name in ("train1.jpg", "val1.jpg"):
        assert re.search(rf"{name}: expected a whole image, got a truncated file .*left out", caplog.text)
    strict = replace(with_bad_images, loader=replace(with_bad_images.loader, strict=True))
    with pytest.raises(DataError, match=r"train1\.jpg: expected a whole image, got a truncated file"):
        train(strict, tmp_path / "strict")
    assert not (tmp_path / "strict" / "config.json").exists()


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a run folder with a config"):
        load_for_inference(tmp_path)


def test_a_run_that_detects_nothing_is_scored_and_reported(tmp_path):
    blind = toy_experiment(postprocess=Postprocess(score_threshold=1.0, pre_nms_topk=50, max_detections=20))
    result = train(blind, tmp_path / "run")
    assert result.last["ap"] == 0
    assert (tmp_path / "run" / "report.md").exists()
    assert (tmp_path / "run" / "predictions.png").exists()
