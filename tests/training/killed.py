"""A short training run of the toy detector that tests kill. It has no report, and reads its programs from files."""

import os
import pickle
import resource
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from data_pipeline import LoaderOptions, TinyScenes
from tests.training.toy import toy_detector_with, toy_experiment
from ugs_jax.experiment import Experiment, fitting
from ugs_jax.runs import PreemptedError, RunFolder
from ugs_jax.runs.checkpoint import Checkpoints
from ugs_jax.training import loop, step, train

EXPERIMENT = toy_experiment(
    data=TinyScenes(train_images=32, val_images=8, image_size=(64, 64)),
    loader=LoaderOptions(image_size=(64, 64), batch_size=4, max_boxes=8, max_ignore=3, threads=0),
    epochs=3,
    log_every=3,  # rows end between checkpoints, too
)
STEPS = 24


def run(folder: Path, programs: Path, cache: Path, experiment: Experiment = EXPERIMENT) -> None:
    """Begin the run, or go on with it; in a process of its own."""
    fitting.detector_with = toy_detector_with
    step.jit_step = compiled_once(step.jit_step, programs / "step")
    loop.jit_detect = compiled_once(loop.jit_detect, programs / "detect")
    loop.finish_run = lambda *_: None
    train(experiment, folder, resume=True, cache_dir=cache)


def run_until_saved(folder: Path, programs: Path, cache: Path, step: int) -> None:
    """As `run`, with checkpoints between evaluations too; killed when that of `step` is whole."""
    save = Checkpoints.save

    def killed(checkpoints: Checkpoints, count: int, *given: Any, **more: Any) -> None:
        save(checkpoints, count, *given, **more)
        if count == step:
            checkpoints.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        run(folder, programs, cache, replace(EXPERIMENT, save_every=5))


def run_with_small_files(folder: Path, programs: Path, cache: Path, limit: int, told: Path) -> None:
    """As `run`, where no file may grow beyond `limit` bytes: as on a full disk. Writes what the error says."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(folder, programs, cache)
    except OSError as error:
        told.write_text(str(error))


def run_until_asked(folder: Path, programs: Path, cache: Path) -> None:
    """As `run`, and as the command line: with the status of a run that was asked to stop."""
    try:
        run(folder, programs, cache)
    except PreemptedError as error:
        sys.exit(error.exit_status)


def claim_as_nobody(folder: Path, told: Path) -> None:
    """Begin a run as a user who may not write there. Writes what the error says."""
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        RunFolder(folder).claim(EXPERIMENT, resume=False)
    except OSError as error:
        told.write_text(str(error))


def compiled_once(make: Callable[..., Any], file: Path) -> Callable[..., Any]:
    """As `make`, but the program it returns is read from the file, or compiled at its first call and written there."""

    def made(*options: Any) -> Callable[..., Any]:
        programs: list[Any] = []

        def call(*arguments: Any) -> Any:
            if not programs and file.exists():
                programs.append(deserialize_and_load(*pickle.loads(file.read_bytes())))
            elif not programs:
                programs.append(make(*options).lower(*arguments).compile())
                file.write_bytes(pickle.dumps(serialize(programs[0])))
            return programs[0](*arguments)

        return call

    return made
