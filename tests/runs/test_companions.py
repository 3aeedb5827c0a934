"""A process that is gone ends the others with a sentence and the exit status that says: start again."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from ugs_jax.runs import companions
from ugs_jax.runs.companions import Companions
from ugs_jax.runs.preemption import PreemptedError

ROOT = Path(__file__).parents[2]


class Store:
    """Words that processes told each other."""

    def __init__(self):
        self.words = {}
        self.closed = False

    def key_value_set(self, key, value, allow_overwrite):
        assert allow_overwrite
        self._open()
        self.words[key] = value

    def key_value_dir_get(self, prefix):
        self._open()
        return [(key, word) for key, word in self.words.items() if key.startswith(prefix)]

    def _open(self):
        if self.closed:
            raise RuntimeError("UNAVAILABLE: Socket closed")


class Left(BaseException):
    """In place of the end of the process."""


@pytest.fixture
def job(monkeypatch):
    """Process 1 of three, in a job that beats a hundred times as fast; what it says."""
    store, said = Store(), []
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(companions, "_client", lambda: store)
    monkeypatch.setattr(Companions, "_trap_abort", lambda _: None)
    for name in ("_BEAT", "_SUSPECT_FOR", "_WAIT"):
        monkeypatch.setattr(companions, name, getattr(companions, name) / 100)

    def leave(status):
        raise Left(status)

    return store, said, Companions(said.append, leave)


def test_an_error_of_the_connection_is_the_end_of_the_process_that_no_longer_counts(job):
    store, said, watch = job
    store.words["ugs/alive/0"] = companions._DONE
    with pytest.raises(Left, match="75"), watch:
        raise ValueError("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    assert said == ["ugs: process 2 is lost; start all processes again with the same command"]


def test_without_the_store_it_is_process_0_that_is_gone(job):
    store, said, watch = job
    store.closed = True
    with pytest.raises(Left, match="75"), watch:
        raise RuntimeError("UNAVAILABLE: Socket closed")
    assert said == ["ugs: process 0 is lost; start all processes again with the same command"]


def test_an_error_of_another_kind_is_raised_as_it_is(job):
    _, said, watch = job
    with pytest.raises(ValueError, match="no such config"), watch:
        raise ValueError("no such config")
    assert said == []


@pytest.mark.parametrize("error", [None, PreemptedError("asked to stop")])
def test_a_process_that_is_done_says_so(job, error):
    store, said, watch = job
    try:
        with watch:
            time.sleep(5 * companions._BEAT)
            counted = store.words["ugs/alive/1"]
            if error is not None:
                raise error
    except PreemptedError:
        pass
    assert int(counted) > 0
    assert store.words["ugs/alive/1"] == companions._DONE
    assert said == []


def test_a_lone_process_is_not_watched():
    with Companions() as watch:
        assert watch.silent(0) is None


CODE = """
import os, sys, time
import numpy as np
from jax.experimental import multihost_utils
from ugs_jax.runs.companions import Companions
from ugs_jax.runs.processes import join_processes
own, port, dies = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
join_processes(f"localhost:{port}", 2, own)
with Companions():
    for step in range(1000):
        if step == 20 and own == dies:
            os._exit(9)
        multihost_utils.broadcast_one_to_all(np.int32(step))
        time.sleep(0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dies", [0, 1])
def test_the_other_of_two_processes_ends_with_75(dies):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(own), port, str(dies)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in (0, 1)
    ]
    try:
        _, said = both[1 - dies].communicate(timeout=150)
        both[dies].communicate(timeout=150)
    finally:
        for process in both:
            process.kill()
    assert both[dies].returncode == 9
    assert both[1 - dies].returncode == 75, said
    assert said.rstrip().endswith(f"ugs: process {dies} is lost; start all processes again with the same command")
