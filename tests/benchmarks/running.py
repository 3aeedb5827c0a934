"""Runs benchmarks as users run them."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from tests.compiling import compiled_quickly
from tests.training.toy import toy_detector_with
from ugs_jax.experiment import fitting


def result_of(benchmark: str, arguments: str) -> dict[str, Any]:
    """The JSON that ends the output of a benchmark, compiled quickly on the CPU."""
    run = subprocess.run(
        [sys.executable, "-m", f"experiments.benchmarks.{benchmark}", *arguments.split()],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def result_with_the_toy(
    benchmark: str, arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """As `result_of`, in this process and with the toy detector, because YOLOv5 takes a minute to compile."""
    module = importlib.import_module(f"experiments.benchmarks.{benchmark}")
    monkeypatch.setattr(fitting, "detector_with", toy_detector_with)
    with compiled_quickly():
        module.main(tyro.cli(module.Settings, args=arguments.split()))
    return json.loads(capsys.readouterr().out.splitlines()[-1])
