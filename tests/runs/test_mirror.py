"""A run at a URL: it resumes bit-identically on another machine, and survives network errors and other claims."""

import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.training.short_runs import push_and_wait, short_runs
from tests.training.store import Store, files
from tests.training.toy import bits, rows, toy_experiment
from ugs_jax.cli import main
from ugs_jax.runs import PreemptedError, load_for_inference
from ugs_jax.runs.preemption import Preemption
from ugs_jax.runs.remote.mirror import Mirror
from ugs_jax.runs.remote.opened import opened_run
from ugs_jax.runs.remote.run import fetch_newer, whole_here, whole_there
from ugs_jax.runs.remote.store import Remote, RemoteError, working_folder
from ugs_jax.runs.remote.upload import OWNER, FencedError, Upload
from ugs_jax.training import train

URL = "store://bucket/run"
EXPERIMENT = toy_experiment(epochs=3, log_every=2)  # rows end between checkpoints, too
STEPS = 9  # 12 images in batches of 4, 3 epochs
AP = {3: 0.1, 6: 0.3, 9: 0.2}
"""By step, so that the best is neither the first nor the last."""


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory):
    """The toy with short steps and given scores, no pauses between tries, a cache of our own."""
    with short_runs(EXPERIMENT, AP, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("data")) as run:
        yield SimpleNamespace(train=run)


@pytest.fixture(autouse=True)
def empty_store():
    Store.begin()
    shutil.rmtree(working_folder(URL), ignore_errors=True)


@pytest.fixture(scope="module")
def want(toy, tmp_path_factory):
    """The run in a folder, and all changes to the store of one at a URL that waits for its uploads."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = toy.train(folder)
    Store.begin()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mirror, "_push", push_and_wait)
        toy.train(URL)
    shutil.rmtree(working_folder(URL))
    return SimpleNamespace(folder=folder, result=result, changes=Store.changes.copy(), files=files())


def assert_same(folder, want):
    assert (folder / "metrics.jsonl").read_bytes() == (want.folder / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        found, wanted = (load_for_inference(place, which=which)[1] for place in (folder, want.folder))
        assert bits(found) == bits(wanted)


def assert_same_there(want):
    """The store has the run that nothing disturbed, and nothing that is superseded."""
    names = Remote(URL).names()
    whole = whole_there(names)
    assert max(whole["last"]) == STEPS
    assert len(whole["last"]) <= 2
    assert whole["best"] == {6}
    for which, steps in whole.items():
        there = [name.split("/")[2] for name in names if name.startswith(f"checkpoints/{which}/")]
        assert set(map(int, there)) == steps
    assert Remote(URL).read("metrics.jsonl") == (want.folder / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        with opened_run(URL, which) as opened:
            found = load_for_inference(opened.folder, which=which)[1]
        assert bits(found) == bits(load_for_inference(want.folder, which=which)[1])


def test_a_run_at_a_url_equals_a_run_in_a_folder(want):
    Store.begin([(path, content) for path, content in want.files.items()])
    assert_same_there(want)
    names = Remote(URL).names()
    assert {"config.json", "metrics.jsonl", "timing.jsonl", "report.md", OWNER} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert not any(part.startswith(".") for name in names for part in name.split("/"))


@pytest.mark.slow
def test_cut_off_after_any_change_it_goes_on_elsewhere_to_the_bit(want, toy, tmp_path):
    """Each is fetched and checked; of those that fetch the same, the last goes on, which has most beside that."""
    fetched = {}
    for cut in range(len(want.changes) + 1):
        if cut:
            Store.change(*want.changes[cut - 1])
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        at, fetched_one = fetch_newer(Remote(URL), Remote(URL).names(), folder)
        steps = whole_here(folder)
        assert fetched_one == (folder / "config.json").exists()
        if at > 0:
            assert steps["last"] == {at}
            rows_then = [row for row in rows(want.folder, "train") + rows(want.folder, "eval") if row["step"] <= at]
            rows_there = [row for row in rows(folder, "train") + rows(folder, "eval") if row["step"] <= at]
            assert rows_there == rows_then
            assert steps["best"] == {max((point for point in AP if point <= at), key=AP.get)}
        fetched[at, *sorted(steps["best"])] = cut
        shutil.rmtree(folder)
    assert list(fetched) == [(-2,), (-1,), (3, 3), (6, 6), (9, 6)]
    for cut in fetched.values():
        Store.begin(want.changes[:cut])
        resumed = toy.train(URL, resume=True)
        assert bits(resumed.state) == bits(want.result.state)
        assert_same(working_folder(URL), want)
        assert_same_there(want)
        shutil.rmtree(working_folder(URL))


def test_occasional_network_errors_change_nothing(want, toy):
    Store.fails = lambda call: call % 3 == 0
    toy.train(URL)
    Store.fails = None
    assert_same_there(want)


def test_a_permanent_network_error_is_reported_and_the_local_run_is_complete(want, toy, caplog):
    Store.fails = lambda call: call >= 20
    with pytest.raises(RemoteError, match=r"the network is down.*give the same command with --resume.*by hand: python"):
        toy.train(URL)
    assert any("The run continues" in record.getMessage() for record in caplog.records)
    assert_same(working_folder(URL), want)
    assert (working_folder(URL) / "report.md").exists()
    Store.fails = None
    toy.train(URL, resume=True)
    assert_same_there(want)


def test_a_network_error_at_the_start_stops_the_run_before_it_computes(toy):
    Store.fails = lambda _: True
    with pytest.raises(RemoteError, match="expected to write, but got TimeoutError: the network is down"):
        toy.train(URL)
    assert not (working_folder(URL) / "metrics.jsonl").exists()


def test_the_newer_of_the_local_and_the_remote_run_is_used_and_reported(want, toy, capsys):
    toy.train(URL, stop_after=6)
    here = working_folder(URL).rename(working_folder(URL).with_suffix(".kept"))
    capsys.readouterr()

    toy.train(URL, resume=True, stop_after=7)
    assert f"{URL}: continuing from its step 6" in capsys.readouterr().out
    shutil.rmtree(working_folder(URL))
    here.rename(working_folder(URL))
    toy.train(URL, resume=True, stop_after=8)  # 6 here, 7 there
    assert f"{URL}: continuing from its step 7" in capsys.readouterr().out

    toy.train(URL, resume=True)  # 8 here and there
    assert f"{URL}: continuing from step 8 of {working_folder(URL)}, which is not older" in capsys.readouterr().out
    assert_same_there(want)


def test_an_existing_run_is_not_overwritten(want, toy):
    Store.begin([*want.files.items()])
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        toy.train(URL)
    Store.begin([(path, content) for path, content in want.files.items() if "config" not in path])
    with pytest.raises(FileExistsError, match=r"found checkpoints/.* without a config\.json"):
        toy.train(URL, resume=True)
    assert {path: content for path, content in want.files.items() if "config" not in path} == files()


def test_another_config_is_refused_before_the_url_is_claimed(want, toy):
    Store.begin([*want.files.items()])
    with pytest.raises(ValueError, match=r"epochs is 3 there and 2 here"):
        train(toy_experiment(epochs=2, log_every=2), URL, resume=True)
    assert files() == want.files


def test_a_run_whose_url_another_claims_stops_before_it_overwrites_anything(toy, tmp_path, monkeypatch):
    def claimed_at_6(mirror, count, *, best):
        if count == 6:
            Upload(Remote(URL), tmp_path).claim(3)
            claimed.append(files())
        push_and_wait(mirror, count, best=best)

    claimed = []
    monkeypatch.setattr(Mirror, "_push", claimed_at_6)
    with pytest.raises(FencedError, match=r"expected to be the only run there, but the newest claim is of process"):
        toy.train(URL)
    assert [files()] == claimed
    assert whole_there(Remote(URL).names())["last"] == {3}
    assert whole_here(working_folder(URL))["last"] <= {3, 6, 9}


def test_a_preempted_run_continues_elsewhere(want, toy, monkeypatch):
    steps = itertools.count(1)
    monkeypatch.setattr(Preemption, "stops_here", lambda _: next(steps) == 4)
    with pytest.raises(PreemptedError, match="stopped after step 4"):
        toy.train(URL)
    monkeypatch.undo()
    shutil.rmtree(working_folder(URL))
    assert 4 in whole_there(Remote(URL).names())["last"]
    toy.train(URL, resume=True)
    assert_same_there(want)


def test_a_damaged_remote_checkpoint_is_reported_and_the_one_before_it_is_used(want, toy, caplog):
    damaged = dict(want.files)
    path = max((path for path in damaged if "/last/9/" in path), key=lambda path: len(damaged[path]))
    damaged[path] = damaged[path][:-1]
    Store.begin([*damaged.items()])
    toy.train(URL, resume=True)
    assert "expected checkpoint last/9 to be whole, but " in caplog.text
    assert Path(path).name in caplog.text
    assert_same_there(want)


def test_a_damaged_remote_best_is_reported_and_the_run_continues(want, toy, caplog):
    damaged = {path: b"" if "/best/6/notes/" in path else content for path, content in want.files.items()}
    del damaged["/bucket/run/report.md"]
    Store.begin([*damaged.items()])
    toy.train(URL, resume=True)
    assert "expected checkpoint best/6 to be whole, but " in caplog.text
    assert "the run continues without its best checkpoint" in caplog.text
    assert "/bucket/run/report.md" in files()
    assert whole_there(Remote(URL).names())["last"] == whole_here(want.folder)["last"]


def test_a_run_whose_checkpoints_are_all_damaged_is_not_restarted(want, toy):
    damaged = {
        path: content[: len(content) // 2] if "/last/" in path else content for path, content in want.files.items()
    }
    Store.begin([*damaged.items()])
    with pytest.raises(ValueError, match="all are damaged"):
        toy.train(URL, resume=True)
    assert files() == damaged


def test_an_interrupted_download_leaves_the_folder_unchanged(want, tmp_path):
    Store.begin([*want.files.items()])
    names, call = Remote(URL).names(), 0
    while not (tmp_path / "config.json").exists():
        Store.calls.clear()
        Store.fails = lambda number, until=call: number > until
        try:
            fetch_newer(Remote(URL), names, tmp_path)
        except RemoteError:
            assert {path.name for path in tmp_path.iterdir()} <= {".download"}
        call += 1
    assert call > 10
    assert_same(tmp_path, want)


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_kill_while_downloads_are_moved_leaves_an_incomplete_folder_that_is_not_used(
    moves, want, tmp_path, monkeypatch
):
    Store.begin([*want.files.items()])
    rename, done = Path.rename, []

    def killed(path, target):
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(path)
        rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch_newer(Remote(URL), Remote(URL).names(), tmp_path)
    monkeypatch.undo()
    assert fetch_newer(Remote(URL), Remote(URL).names(), tmp_path) == (STEPS, True)
    assert_same(tmp_path, want)


@pytest.mark.parametrize("name", ["../x", "checkpoints/../../x", "checkpoints/./x", "a\\..\\x", "checkpoints//x"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name, want, toy):
    Store.begin([*want.files.items()])
    Store.store[f"/bucket/run/{name}"] = Store.store["/bucket/run/report.md"]
    with pytest.raises(ValueError, match="expected files inside this folder, found one named"):
        toy.train(URL, resume=True)
    assert {path.name for path in working_folder(URL).iterdir()} == {".lock"}


def test_files_written_beside_a_run_are_uploaded_and_named_by_their_url(want):
    Store.begin([*want.files.items()])
    with opened_run(URL, "best") as opened:
        file = opened.folder / "evaluation_best.json"
        file.write_text("{}")
    assert opened.shown(file) == f"{URL}/evaluation_best.json"
    assert files() == want.files | {"/bucket/run/evaluation_best.json": b"{}"}


def test_commands_take_urls(want, capsys, monkeypatch, tmp_path):
    for words in (["eval", "store://bucket/none"], ["predict", "store://bucket/none", "image.png"]):
        assert main(words) == 1
        assert "store://bucket/none: expected a run folder" in capsys.readouterr().err
    Store.begin([*want.files.items()])
    for path in want.files:
        Store.store[path.replace("/run/", "/other/")] = Store.store[path]
    config = json.loads(want.files["/bucket/run/config.json"])
    Store().pipe_file("/bucket/other/config.json", json.dumps(config | {"name": "other"}).encode())
    assert main(["compare", URL, "store://bucket/other", "--folder", "store://bucket/both"]) == 0
    assert "table: store://bucket/both/comparison.md" in capsys.readouterr().out
    assert Remote("store://bucket/both").names() == {f"comparison.{kind}" for kind in ("json", "md", "png")}
    called = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ugs_jax.training.train", lambda *given, **_: called.append(given[1]) or want.result)
    assert main(["train", "first_light_ugs", "--folder", URL]) == 0
    assert main(["train", "first_light_ugs", "--folder", "runs/x"]) == 0
    assert called == [URL, "runs/x"]
    assert f"report: {URL}/report.md" in capsys.readouterr().out
