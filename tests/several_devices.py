"""Functions of test modules in a process of their own, with several simulated devices."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.flags import with_devices

ROOT = Path(__file__).parents[1]


def on_devices(count: int, function: Callable[..., Any], *arguments: Any, double: bool = False) -> Any:
    """What a function of a module returns, by way of JSON, on `count` devices; `double` is for float64."""
    environment = os.environ | {
        "XLA_FLAGS": with_devices(count),
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(int(double)),
    }
    name = function.__name__
    code = f"import json; from {function.__module__} import {name}; print(json.dumps({name}(*{arguments!r})))"
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
