"""A run that is killed at any instant resumes to the same result. Damaged checkpoints are reported and not used."""

import multiprocessing
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.training.killed import (
    STEPS,
    claim_as_nobody,
    run,
    run_until_asked,
    run_until_saved,
    run_with_small_files,
)
from tests.training.toy import bits, rows, toy_detector_with
from ugs_jax.experiment import fitting
from ugs_jax.runs import RESUMABLE, RunFolder, load_for_inference

pytestmark = pytest.mark.slow

KILLS = 30
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.training.killed"])


@pytest.fixture(scope="module", autouse=True)
def toy():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "detector_with", toy_detector_with)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run that nobody killed, and how long one takes whose programs are compiled."""
    base = tmp_path_factory.mktemp("undisturbed")
    (base / "programs").mkdir()
    paths = SimpleNamespace(folder=base / "run", programs=base / "programs", cache=base / "cache")
    finish(start(paths.folder, paths))
    started = time.monotonic()
    finish(start(base / "again", paths))
    paths.seconds = time.monotonic() - started
    assert_same(base / "again", paths.folder)
    return paths


def start(folder, paths, target=run, *more):
    process = PROCESSES.Process(target=target, args=(folder, paths.programs, paths.cache, *more))
    process.start()
    return process


def finish(process):
    process.join(300)
    assert process.exitcode == 0


def assert_same(folder, want):
    """Parameters, averages, optimizer, metrics: to the bit."""
    assert (folder / "metrics.jsonl").read_bytes() == (want / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        assert bits(load_for_inference(folder, which=which)[1]) == bits(load_for_inference(want, which=which)[1])


def mid_save(folder):
    return any(folder.glob("checkpoints/*/*tmp*"))


def test_thirty_kills_change_nothing(undisturbed, tmp_path):
    draw, kills, saving, runs = random.Random(0), 0, 0, 0
    while kills < KILLS:
        folder = tmp_path / f"run{(runs := runs + 1)}"
        done = False
        while not done and kills < KILLS:
            process = start(folder, undisturbed)
            deadline = time.monotonic() + draw.uniform(0, undisturbed.seconds)
            waits_for_a_save = kills % 3 == 0
            while process.is_alive() and time.monotonic() < deadline:
                if waits_for_a_save and mid_save(folder):
                    break
                time.sleep(0.001)
            process.kill()
            process.join()
            done = process.exitcode == 0
            kills += not done
            saving += not done and mid_save(folder)
        finish(start(folder, undisturbed))
        assert_same(folder, undisturbed.folder)
        assert int(load_for_inference(folder, which="last")[1].step) == STEPS
    assert saving > 0


def test_a_run_killed_between_evaluations_continues_from_the_checkpoint_between_them(undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, undisturbed, run_until_saved, 15)
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert int(load_for_inference(folder, which="last")[1].step) == 15  # evaluations are after 8, 16 and 24
    assert [row["step"] for row in rows(folder, "eval")] == [8]
    finish(start(folder, undisturbed))  # `save_every` is another now
    assert_same(folder, undisturbed.folder)


def test_a_run_that_is_asked_to_stop_saves_exits_with_75_and_continues_bit_identically(undisturbed, tmp_path):
    folder, codes = tmp_path / "run", []
    while not codes or (codes[-1] != 0 and len(codes) < 30):
        process = start(folder, undisturbed, run_until_asked)
        while process.is_alive() and not (folder / "metrics.jsonl").exists():
            time.sleep(0.01)
        time.sleep(0.05 + 0.4 * len(codes))
        process.terminate()
        process.join(300)
        codes.append(process.exitcode)
    assert codes[-1] == 0
    assert RESUMABLE in codes
    assert set(codes) <= {0, RESUMABLE, -signal.SIGTERM}  # the last where it came before the run had begun to listen
    assert_same(folder, undisturbed.folder)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def largest(folder):
    return max((file for file in folder.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_is_used(undisturbed, tmp_path, damage, caplog):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.folder, folder)
    file = largest(folder / "checkpoints" / "last" / str(STEPS))
    damage(file)
    _, state, _ = load_for_inference(folder, which="last")
    assert int(state.step) == STEPS - 8
    (message,) = (record.getMessage() for record in caplog.records)
    assert f"last/{STEPS}: expected a whole checkpoint, but " in message
    assert file.name in message
    assert (folder / "checkpoints" / "last" / str(STEPS)).exists()  # only looked at
    finish(start(folder, undisturbed))
    assert_same(folder, undisturbed.folder)
    assert (folder / "checkpoints" / "damaged" / f"last-{STEPS}").exists()


def test_without_an_undamaged_checkpoint_nothing_is_overwritten(undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed.folder, folder)
    for step in (folder / "checkpoints" / "last").glob("[0-9]*"):
        cut(largest(step))
    with pytest.raises(ValueError, match=r"expected a whole checkpoint, but all are damaged"):
        load_for_inference(folder, which="last")
    for _ in range(2):  # told again, not begun anew
        process = start(folder, undisturbed)
        process.join(300)
        assert process.exitcode == 1
    assert sorted(path.name for path in (folder / "checkpoints" / "last").glob("[0-9]*")) == ["16", "24"]
    assert (folder / "metrics.jsonl").read_bytes() == (undisturbed.folder / "metrics.jsonl").read_bytes()


def test_a_full_disk_is_reported_and_the_run_continues_when_there_is_space(undisturbed, tmp_path):
    folder, told = tmp_path / "run", tmp_path / "told.txt"
    limit = largest(undisturbed.folder / "checkpoints" / "last" / str(STEPS)).stat().st_size - 1
    finish(start(folder, undisturbed, run_with_small_files, limit, told))
    assert "no checkpoint could be saved" in told.read_text()
    assert "Make room" in told.read_text()
    finish(start(folder, undisturbed))
    assert_same(folder, undisturbed.folder)


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.lock()
    with pytest.raises(BlockingIOError, match=r"expected no other run here, but process \d+ on .* is writing to it"):
        second.lock()
    first.close()
    second.lock()
    second.close()


def test_a_folder_without_write_permission_is_reported():
    with tempfile.TemporaryDirectory() as place:
        folder, told = Path(place, "closed"), Path(place, "open", "told.txt")
        folder.mkdir(mode=0o555)
        told.parent.mkdir()
        told.parent.chmod(0o777)
        Path(place).chmod(0o755)
        process = PROCESSES.Process(target=claim_as_nobody, args=(folder / "run", told))
        process.start()
        finish(process)
        assert "expected a folder that can be written" in told.read_text()
