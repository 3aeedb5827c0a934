"""Signals stop a run so that it can be resumed: exit statuses, one or two Ctrl-C, extra checkpoints."""

import os
import shutil
import signal
from types import SimpleNamespace

import jax
import pytest

from tests.training.short_runs import short_runs
from tests.training.toy import bits, toy_experiment
from ugs_jax.cli import main
from ugs_jax.runs import load_for_inference
from ugs_jax.runs.checkpoint import Checkpoints
from ugs_jax.runs.preemption import Preemption
from ugs_jax.training import loop

EXPERIMENT = toy_experiment(epochs=3, log_every=2)
AP = {3: 0.1, 6: 0.3, 9: 0.2}


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C as in a terminal. A job in the background inherits an ignored SIGINT, and hands it on to pytest."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory):
    with short_runs(EXPERIMENT, AP, tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("data")) as run:
        yield SimpleNamespace(train=run)


@pytest.fixture(scope="module")
def whole(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    toy.train(folder)
    return folder


@pytest.fixture
def command(tmp_path):
    """Words that train the experiment."""
    file = tmp_path / "short.py"
    file.write_text(
        "from tests.training.toy import toy_experiment\nexperiment = toy_experiment(epochs=3, log_every=2)\n"
    )
    return ["train", str(file), "--folder", str(tmp_path / "run")]


def send_before_step(monkeypatch, *signals, step=4):
    """Signals to this process, just before it takes a step."""

    def before(profiler, number):
        if number == step:
            for sent in signals:
                os.kill(os.getpid(), sent)

    monkeypatch.setattr(loop.Profiler, "before", before)


def assert_same(folder, want):
    assert (folder / "metrics.jsonl").read_bytes() == (want / "metrics.jsonl").read_bytes()
    for which in ("last", "best"):
        assert bits(load_for_inference(folder, which=which)[1]) == bits(load_for_inference(want, which=which)[1])


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_command_that_is_asked_to_stop_saves_and_has_the_right_exit_status(
    sent, status, whole, command, tmp_path, monkeypatch, capfd
):
    with monkeypatch.context() as patch:
        send_before_step(patch, sent)
        assert main(command) == status
    said = capfd.readouterr().err
    assert "asked to stop, and did after step" in said
    assert ("Ctrl-C again stops without" in said) == (sent == signal.SIGINT)
    assert int(load_for_inference(tmp_path / "run", which="last")[1].step) == 4
    assert not (tmp_path / "run" / "report.md").exists()
    assert main([*command, "--resume"]) == 0
    assert_same(tmp_path / "run", whole)


def test_a_second_interrupt_ends_without_saving_and_the_run_can_be_resumed(
    whole, command, tmp_path, monkeypatch, capsys
):
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        send_before_step(patch, signal.SIGINT, signal.SIGINT)
        assert main(command) == 130
    assert "ugs train: interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    assert int(load_for_inference(tmp_path / "run", which="last")[1].step) == 3
    assert main([*command, "--resume"]) == 0
    assert_same(tmp_path / "run", whole)


def test_an_ignored_interrupt_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Preemption():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_with_several_processes_an_interrupt_becomes_the_signal_that_jax_forwards(monkeypatch):
    told = []
    before = signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    try:
        with Preemption() as preemption:
            os.kill(os.getpid(), signal.SIGINT)
            assert told == [signal.SIGTERM]
            assert preemption.exit_status == 130
    finally:
        signal.signal(signal.SIGTERM, before)


def test_save_every_saves_checkpoints_between_evaluations(toy, whole, tmp_path, monkeypatch):
    saved, save = [], Checkpoints.save

    def noted(checkpoints, step, *given, **more):
        saved.append(step)
        save(checkpoints, step, *given, **more)

    monkeypatch.setattr(Checkpoints, "save", noted)
    with short_runs(toy_experiment(epochs=3, log_every=2, save_every=2), AP, tmp_path, tmp_path) as run:
        run(tmp_path / "run")
    assert saved == [2, 3, 4, 6, 8, 9]
    assert_same(tmp_path / "run", whole)
    with pytest.raises(ValueError, match=r"Experiment\.save_every: expected at least 1, got 0"):
        toy_experiment(save_every=0)


def test_a_damaged_best_checkpoint_is_reported_and_the_run_ends_normally(toy, whole, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "report.md").unlink()
    for file in (folder / "checkpoints" / "best" / "6").glob("notes/*"):
        file.write_bytes(b"")
    toy.train(folder, resume=True)
    assert "best: expected a whole checkpoint, but all are damaged" in caplog.text
    assert "shows the last state instead of the best" in caplog.text
    assert (folder / "report.md").exists()
