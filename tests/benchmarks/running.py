"""Benchmarks as their users run them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


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
