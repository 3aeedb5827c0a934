"""Run folders: descriptions of data sets, full disks, and file systems without locks."""

import errno
import fcntl
import json
import os
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tensorboardX.proto.event_pb2 import Event

from data_pipeline import CocoJson
from tests.training.toy import toy_experiment
from ugs_jax.experiment import Fitted
from ugs_jax.report import read_rows
from ugs_jax.runs.run_folder import RunFolder

ANCHORS = (((4.0, 4.0),) * 3,) * 4


def coco_set(folder, width):
    folder.mkdir()
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 32}],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, width, 4]}],
    }
    for name in ("train.json", "val.json"):
        (folder / name).write_text(json.dumps(content))
    return CocoJson(folder, folder / "train.json", folder, folder / "val.json")


def described(folder, data):
    run = RunFolder(folder)
    experiment = replace(toy_experiment(), data=data)
    run.begin(
        experiment, "ugs train toy", Fitted(ANCHORS, experiment.localization), experiment.data.classes, resume=False
    )
    return json.loads((folder / "config.json").read_text())["dataset"]


def test_data_sets_with_different_content_have_different_descriptions(tmp_path):
    ours = described(tmp_path / "a", coco_set(tmp_path / "one", width=5))
    assert ours != described(tmp_path / "b", coco_set(tmp_path / "two", width=6))


def test_a_data_set_that_was_moved_keeps_its_description(tmp_path):
    there, here = coco_set(tmp_path / "there", width=5), tmp_path / "elsewhere" / "there"
    before = described(tmp_path / "a", there)
    here.parent.mkdir()
    (tmp_path / "there").rename(here)
    moved = CocoJson(here, here / "train.json", here, here / "val.json")
    assert described(tmp_path / "b", moved) == before


def begun(folder, **options):
    run, experiment = RunFolder(folder), toy_experiment()
    run.begin(experiment, "", Fitted(ANCHORS, experiment.localization), ("car", "bus"), resume=False, **options)
    return run


def test_category_ids_of_the_data_set_are_stored_and_older_runs_count_from_one(tmp_path):
    run = begun(tmp_path / "new", category_ids=(4, 90))
    assert run.read_category_ids() == (4, 90)
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    del config["category_ids"]
    (tmp_path / "new" / "config.json").write_text(json.dumps(config))
    assert run.read_category_ids() == (1, 2)
    assert begun(tmp_path / "none").read_category_ids() == (1, 2)


@pytest.mark.parametrize("ids", [[1], [1, 1], [1, True], [1, "2"], [[1], [2]], {"car": 1}, 3])
def test_damaged_category_ids_are_named(tmp_path, ids):
    run = begun(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"category_ids": ids}))
    with pytest.raises(
        ValueError, match=r'config\.json: expected "category_ids", a whole number of its own for each of 2'
    ):
        run.read_category_ids()


def test_a_folder_is_begun_once(tmp_path):
    data = coco_set(tmp_path / "data", width=5)
    assert not RunFolder(tmp_path / "a").begun
    described(tmp_path / "a", data)
    assert RunFolder(tmp_path / "a").begun
    with pytest.raises(FileExistsError, match="--resume"):
        described(tmp_path / "a", data)


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.lock()
    yield folder
    folder.close()


@contextmanager
def files_no_longer_than(size):
    """As on a disk on which a file can still grow to `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_row_that_does_not_fit_on_the_disk_is_an_error_and_leaves_no_incomplete_row(run):
    run.write("train", 1, 0.5, {"loss": 1.0})
    before = run.metrics_file.read_bytes()
    with (
        files_no_longer_than(len(before) + 10),
        pytest.raises(OSError, match=r"metrics\.jsonl: .*Make room .* --resume"),
    ):
        run.write("train", 2, 1.0, {"loss": 1.0})
    assert run.metrics_file.read_bytes() == before
    run.write("train", 2, 1.0, {"loss": 1.0})
    assert [row["step"] for row in read_rows(run.metrics_file)] == [1, 2]


def test_the_event_file_has_what_the_log_has(run):
    run.write("train", 3, 0.5, {"loss": 1.5, "unknown": float("nan")})
    run.write("eval", 4, 1.0, {"ap": 0.25})
    (file,) = run.path.glob("events.out.tfevents.*")
    content, found = file.read_bytes(), []
    while content:  # length, checksum, event, checksum
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        content = content[16 + size :]
    assert found == [(3, "train/loss", 1.5), (4, "eval/ap", 0.25)]


def test_an_event_that_does_not_fit_on_the_disk_is_an_error_and_the_log_is_complete(run, caplog):
    for step in range(20):
        run.write("train", step, 0.0, dict.fromkeys("abcdefgh", 1.0))
    (events,) = run.path.glob("events.out.tfevents.*")
    size = events.stat().st_size + 100
    assert size > run.metrics_file.stat().st_size + 1000
    with files_no_longer_than(size), pytest.raises(OSError, match=r"events\.out\.tfevents\.\*: .*Make room"):
        run.write("eval", 20, 0.0, {"ap": 0.5})
    assert len(read_rows(run.metrics_file)) == 21
    with files_no_longer_than(size):
        run.close()
    assert "the event file could not be finished: " in caplog.text


@pytest.mark.parametrize("missing", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_gives_a_warning_and_is_used(tmp_path, missing, monkeypatch, caplog):
    def flock(*_):
        raise OSError(missing, os.strerror(missing))

    monkeypatch.setattr(fcntl, "flock", flock)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.lock()
    assert "expected a file system with locks, got: " in caplog.text
    second.lock()
    first.write("train", 1, 0.5, {"loss": 1.0})
    for folder in (first, second):
        folder.close()


def test_other_errors_of_locking_are_raised(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"):
        RunFolder(tmp_path / "run").lock()
