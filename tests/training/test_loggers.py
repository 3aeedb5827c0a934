"""Loggers of users, beside the log of the run."""

import json

import numpy as np
import pytest

from tests.training.toy import rows, toy_experiment, toy_runs
from ugs_jax.cli import main
from ugs_jax.commands.loggers import load_loggers
from ugs_jax.report import read_diagnosis
from ugs_jax.training import LoggerError, RunLogger, RunStart, train
from ugs_jax.training.loggers import Loggers

EXPERIMENT = toy_experiment(epochs=1)
START = RunStart("toy", 0, "runs/toy", 0, {})


class Remembers(RunLogger):
    """Keeps what it is told; `start` and `finish` are inherited by `OnlyLogs`."""

    def __init__(self):
        self.started, self.logged, self.finished = [], [], []

    def start(self, run):
        self.started.append(run)

    def log(self, step, values):
        self.logged.append((step, dict(values)))

    def finish(self, scores, complete):
        self.finished.append((dict(scores), complete))


class OnlyLogs(RunLogger):
    def log(self, step, values):
        raise ConnectionError("no network")


class NotStarting(RunLogger):
    def start(self, run):
        raise PermissionError("no key")


class Half:
    def log(self, step, values):
        pass


def make_nothing():
    raise RuntimeError("no such account")


def test_finite_values_are_passed_on_under_the_names_of_the_event_files():
    logger = Remembers()
    Loggers([logger]).log("eval", 7, 1.5, {"ap": np.float32(0.5), "ap_tiny": None, "loss": float("nan")})
    assert logger.logged == [(7, {"eval/ap": 0.5, "epoch": 1.5})]


def test_an_error_while_logging_is_told_once_with_the_name_and_the_others_go_on(caplog):
    first, second = OnlyLogs(), Remembers()
    loggers = Loggers([first, second])
    loggers.start(START)
    for step in range(3):
        loggers.log("train", step, 0.0, {"loss": 1.0})
    loggers.finish({}, complete=True)
    assert len(second.logged) == 3
    assert second.finished == [({}, True)]
    once, number = (record.message for record in caplog.records)
    assert "test_loggers:OnlyLogs.log: got ConnectionError: no network. The run continues" in once
    assert number.endswith("OnlyLogs: 3 calls failed; metrics.jsonl is whole")


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        (Half(), r"logger .*test_loggers:Half: expected a logger with start, log and finish, got one without start"),
        (Remembers, r"got the class Remembers; make an object"),
        (print, r"got one without start"),
    ],
)
def test_an_object_that_is_no_logger_is_refused(logger, message):
    with pytest.raises(LoggerError, match=message):
        Loggers([logger])


def test_an_error_at_the_start_is_raised_with_the_name():
    with pytest.raises(LoggerError, match=r"NotStarting: expected to start, got PermissionError: no key; "):
        Loggers([NotStarting()]).start(START)


def test_a_logger_is_made_from_a_file_or_a_module(tmp_path):
    file = tmp_path / "logger_of_a_file.py"
    file.write_text(
        "from ugs_jax.training import RunLogger\n\n\nclass Mine(RunLogger):\n    def log(self, step, values): ...\n"
    )
    mine, other = load_loggers([f"{file}:Mine", "tests.training.test_loggers:Remembers"])
    assert (type(mine).__name__, type(other).__name__) == ("Mine", "Remembers")
    Loggers([mine, other]).start(START)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mine", r"--logger Mine: expected MODULE:NAME or FILE\.py:NAME"),
        ("a:b c", r"--logger a:b c: expected MODULE:NAME"),
        ("missing.py:Mine", r"missing\.py: expected a Python file, found none"),
        ("no_such_module:Mine", r"--logger no_such_module: No module named 'no_such_module'"),
        ("tests.training.test_loggers:Remember", r"defines no 'Remember'; did you mean 'Remembers'\?"),
        (
            "tests.training.test_loggers:make_nothing",
            r"call make_nothing\(\) .* RuntimeError: no such account",
        ),
    ],
)
def test_a_name_of_no_logger_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_loggers([name])


def test_the_command_refuses_a_wrong_logger_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--logger", "Mine"]) == 1
    assert "--logger Mine: expected MODULE:NAME" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_tells_its_loggers_everything_and_writes_its_diagnosis_and_its_page(tmp_path):
    logger = Remembers()
    folder = tmp_path / "run"
    with toy_runs():
        train(EXPERIMENT, folder, stop_after=2, loggers=[logger, OnlyLogs()])
        train(EXPERIMENT, folder, resume=True, loggers=[logger])
        with pytest.raises(LoggerError, match="no key"):
            train(EXPERIMENT, tmp_path / "other", loggers=[NotStarting()])
    assert not (tmp_path / "other" / "config.json").exists()
    assert [(run.step, run.folder, run.config["type"]) for run in logger.started] == [
        (0, str(folder), "Experiment"), (2, str(folder), "Experiment"),
    ]  # fmt: skip
    assert [complete for _, complete in logger.finished] == [False, True]
    assert logger.finished[0][0] == {}
    (evaluation,) = rows(folder, "eval")
    assert logger.finished[1][0]["ap"] == evaluation["ap"]
    told = [(step, values["train/loss"]) for step, values in logger.logged if "train/loss" in values]
    assert told == [(row["step"], row["loss"]) for row in rows(folder, "train")]
    assert {"train", "eval", "timing"} <= {name.partition("/")[0] for _, values in logger.logged for name in values}
    assert read_diagnosis(folder / "diagnosis_best.json").images == 4
    assert "4 images of tiny_scenes/val, epoch 1" in (folder / "report.html").read_text()
    config = json.loads((folder / "config.json").read_text())
    assert set(config["environment"]) == {"python", "system", "devices"}
    with toy_runs():
        words = ["eval", str(folder), "--plots"]
        before = read_diagnosis(folder / "diagnosis_best.json")
        assert main(words) == 0
    after = read_diagnosis(folder / "diagnosis_best.json")
    assert after.confusion == before.confusion
    np.testing.assert_array_equal(after.overall.curve.confidence, before.overall.curve.confidence)
    assert (folder / "plots_best" / "f1.png").exists()
