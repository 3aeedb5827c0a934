"""Control of a run: early end by patience, extension by epochs, and reports of runs that were stopped."""

import json
import shutil
from dataclasses import replace

import pytest

from tests.training.short_runs import short_runs
from tests.training.store import Store, files
from tests.training.toy import bits, rows, toy_experiment
from ugs_jax.cli import main
from ugs_jax.commands.several_runs import train_once
from ugs_jax.report import evaluations_since_best, write_run_report
from ugs_jax.runs import load_for_inference, read_experiment
from ugs_jax.runs.remote.opened import opened_run
from ugs_jax.runs.remote.store import working_folder
from ugs_jax.training import train

EXPERIMENT = toy_experiment(epochs=6, patience=2, log_every=2)
PATIENT = replace(EXPERIMENT, patience=None)
AP = {3: 0.1, 6: 0.3, 9: 0.3, 12: 0.2, 15: 0.5, 18: 0.1, 21: 0.1, 24: 0.6}
URL = "store://bucket/run"


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory):
    with short_runs(EXPERIMENT, AP, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("data")):
        yield


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    """The run without patience."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(PATIENT, folder)
    return folder


@pytest.mark.parametrize(
    ("aps", "since"),
    [([], 0), ([0.1], 0), ([0.1, 0.1], 1), ([0.1, 0.2, None, 0.2], 2), ([None, None], 1), ([0.3, 0.1, 0.4], 0)],
)
def test_evaluations_since_the_best_are_counted_from_the_earliest_among_equals(aps, since):
    assert evaluations_since_best([{"ap": ap} for ap in aps]) == since


def test_a_run_out_of_patience_ends_says_so_and_has_a_report(tmp_path, capsys):
    result = train(EXPERIMENT, tmp_path / "run")
    assert [row["step"] for row in rows(tmp_path / "run", "eval")] == [3, 6, 9, 12]  # 0.3 again is not better
    assert (result.best["ap"], result.last["ap"], int(result.state.step)) == (0.3, 0.2, 12)
    assert (tmp_path / "run" / "report.md").exists()  # by the end of the run
    said = "toy: ended at epoch 4 of 6: AP was not better for 2 evaluations (patience 2). The best was at epoch 2."
    assert said in capsys.readouterr().out
    assert (
        "Ended early, at epoch 4 of 6: AP was not better for 2 evaluations"
        in write_run_report(tmp_path / "run").read_text()
    )


@pytest.mark.slow
def test_a_run_that_ended_early_takes_no_step_until_its_patience_is_raised(whole, tmp_path):
    folder = tmp_path / "run"
    train(EXPERIMENT, folder)
    assert int(train(EXPERIMENT, folder, resume=True).state.step) == 12
    result = train(replace(EXPERIMENT, patience=3), folder, resume=True)
    assert int(result.state.step) == 18
    assert read_experiment(folder).patience == 3
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        assert bits(load_for_inference(folder, which=which)[1]) == bits(load_for_inference(whole, which=which)[1])
    assert "Ended early" not in write_run_report(folder).read_text()


@pytest.mark.slow
def test_patience_is_recalled_from_the_log_of_a_run_that_was_killed(tmp_path):
    folder = tmp_path / "run"
    train(PATIENT, folder, stop_after=10)
    assert int(train(EXPERIMENT, folder, resume=True).state.step) == 12


def test_a_run_without_any_patience_is_refused():
    with pytest.raises(ValueError, match=r"Experiment\.patience: expected at least 1, got 0"):
        toy_experiment(patience=0)


@pytest.mark.slow
def test_a_finished_run_is_extended_and_notes_it(tmp_path):
    folder = tmp_path / "run"
    train(PATIENT, folder)
    longer = replace(PATIENT, epochs=8)
    train(longer, folder, resume=True, stop_after=20)
    assert int(train(longer, folder, resume=True).state.step) == 24
    assert [row["step"] for row in rows(folder, "eval")] == [*AP]
    assert read_experiment(folder) == longer
    config = json.loads((folder / "config.json").read_text())
    assert config["epochs"] == 8
    assert config["extensions"] == [{"epochs": 6, "to_epochs": 8, "step": 18, "epoch": 6.0}]
    assert "Extended from 6 to 8 epochs after step 18 (epoch 6)." in write_run_report(folder).read_text()


def test_a_run_cannot_be_shortened(whole):
    before = (whole / "config.json").read_bytes()
    with pytest.raises(ValueError, match="epochs is 6 there and 5 here, which may only grow"):
        train(replace(PATIENT, epochs=5), whole, resume=True)
    assert (whole / "config.json").read_bytes() == before


def test_the_report_of_a_stopped_run_is_written_by_a_command_and_says_how_to_continue(tmp_path, capsys):
    folder = tmp_path / "run"
    train(PATIENT, folder, stop_after=4)
    assert not (folder / "report.md").exists()
    assert main(["report", str(folder), "--no-predictions"]) == 0
    assert f"report: {folder}/report.md" in capsys.readouterr().out
    text = (folder / "report.md").read_text()
    assert "Best AP **10.0** (AP50 10.0) at epoch 1." in text
    assert "Not finished: the last row of the log is of step 4, epoch 1.3333 of 6." in text
    assert "add `--resume`" in text
    assert (folder / "curves.png").stat().st_size > 0


@pytest.mark.slow
def test_a_stopped_run_with_a_report_is_continued_by_comparisons(tmp_path):
    folder = tmp_path / "toy-seed0"
    train(PATIENT, folder, stop_after=4)
    write_run_report(folder)
    assert train_once(PATIENT, str(tmp_path), resume=True) == str(folder)
    assert int(load_for_inference(folder, which="last")[1].step) == 18
    written = (folder / "report.md").stat().st_mtime_ns
    train_once(PATIENT, str(tmp_path), resume=True)  # finished: not opened again
    assert (folder / "report.md").stat().st_mtime_ns == written


@pytest.mark.slow
def test_the_report_of_a_run_at_a_url_is_written_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("UGS_CACHE", str(tmp_path))
    Store.begin()
    train(PATIENT, URL, stop_after=2)
    with opened_run(URL, "best", "last") as opened:
        assert [path.name for path in (opened.folder / "checkpoints").glob("l*/*")] == ["2"]
    Store.change("/bucket/run/predictions.png", b"drawn before")
    Store.change("/bucket/run/report.md", b"an older report")
    assert main(["report", URL, "--no-predictions"]) == 0
    assert f"report: {URL}/report.md" in capsys.readouterr().out
    assert b"epoch 0.6667 of 6" in files()["/bucket/run/report.md"]
    assert b"![Ground truth beside detections](predictions.png)" in files()["/bucket/run/report.md"]


@pytest.mark.slow
def test_a_run_at_a_url_is_extended_on_another_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("UGS_CACHE", str(tmp_path))
    Store.begin()
    train(PATIENT, URL)
    shutil.rmtree(working_folder(URL))
    assert int(train(replace(PATIENT, epochs=8), URL, resume=True).state.step) == 24
    config = json.loads(files()["/bucket/run/config.json"])
    assert (config["epochs"], config["experiment"]["epochs"]) == (8, 8)
    assert config["extensions"] == [{"epochs": 6, "to_epochs": 8, "step": 18, "epoch": 6.0}]
