"""All measurements that wait for a GPU, one after the other, within a time limit; started by `on_a_gpu.sh`.

    experiments/benchmarks/on_a_gpu.sh --folder FOLDER

Each step is a benchmark in its own process with its own time limit. A step that fails or takes too long does not stop
the others. FOLDER/results.jsonl has a line for each step, and FOLDER/results.md has the tables. Both are written after
every step. Steps that have a result are skipped, so that a second call with the same folder continues the first. What
the steps print is in FOLDER/log.txt. Compiled programs are kept in FOLDER/compiled.

`ugs plan` runs beside the other steps, at the lowest priority, until its answer is needed. It needs one of the GPUs in
`GPUS`, and the compiler of `jax[cuda12]` or `jax[cuda13]`.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import tyro

from experiments.benchmarks.gpu_report import markdown

GPUS = ("a100", "h100", "h200")
"""GPUs that `ugs plan` knows."""

_BENCHMARKS = "experiments.benchmarks."
_CONFIG = "experiments/configs/first_light_ugs.py"
_LARGEST = (
    f"{_CONFIG} --network.size n --network.dtype bfloat16 --loader.image-size 640 640 --loader.max-boxes 300 "
    "--loader.batch-size 512 --classes 10"
)


@dataclass(frozen=True)
class Settings:
    """Settings of the measurements.

    Attributes:
      folder: Folder of the results.
      total: Time for all steps, seconds.
      only: Names of steps, or their beginnings; by default all.
      tiny: Replace the steps by similar ones that a CPU runs in seconds, to test this script.
    """

    folder: Path
    total: float = 460.0
    only: tuple[str, ...] = ()
    tiny: bool = False


@dataclass(frozen=True)
class Step:
    """One measurement.

    Attributes:
      name: Name in the results.
      command: Words after `python -m`.
      limit: Time limit, seconds.
      planned: Compare with the answer of `ugs plan`, by the option --plan.
    """

    name: str
    command: str
    limit: float
    planned: bool = False


def steps() -> list[Step]:
    """Return all steps, cheapest first. Half precision comes before float32."""
    workers = max(1, (os.cpu_count() or 2) - 2)

    def train(size: str, side: int, dtype: str) -> Step:
        words = f"--sizes {size} --image-sizes {side} --dtypes {dtype} --repeats 8 --workers {workers}"
        return Step(f"train {size} {side} {dtype}", f"{_BENCHMARKS}train_step {words} --torch-limit 120", 240.0)

    found = [
        Step("hessian", f"{_BENCHMARKS}hessian --repeats 9", 100.0),
        Step("prediction", f"{_BENCHMARKS}prediction", 120.0),
        train("n", 640, "bfloat16"),
        Step("step cost", f"{_BENCHMARKS}step_cost --dtype bfloat16", 150.0),
        Step("largest batch", f"{_BENCHMARKS}largest_batch {_LARGEST} --trials 3", 240.0, planned=True),
        *(train(size, side, "bfloat16") for size, side in (("x", 640), ("n", 1536), ("x", 1536))),
        *(train(size, side, "float32") for size, side in (("n", 640), ("x", 640), ("n", 1536), ("x", 1536))),
    ]
    return [step for step in found if step.name != "prediction" or Path(__file__).with_name("prediction.py").exists()]


def tiny_steps() -> list[Step]:
    """Return similar steps that a CPU runs in seconds; the last one is too slow for its limit."""
    train = "--sizes p --image-sizes 128 --batch 1 --repeats 1 --warmup 1 --load-steps 1 --product 64 --torch none"
    largest = f"{_CONFIG} --network.size p --loader.image-size 128 128 --loader.batch-size 1 --classes 3"
    return [
        Step("train p 128 float32", f"{_BENCHMARKS}train_step {train}", 600.0),
        Step("largest batch", f"{_BENCHMARKS}largest_batch {largest} --memory 100000000 --trials 1", 600.0, True),
        Step("too slow", f"{_BENCHMARKS}step_cost", 0.1),
    ]


def main(settings: Settings) -> None:
    """Run the steps that have no result yet, and print the tables."""
    folder = settings.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "compiled"))
    until, results = time.monotonic() + settings.total, folder / "results.jsonl"
    lines = (
        {line["step"]: line for line in map(json.loads, results.read_text().splitlines())} if results.exists() else {}
    )
    wanted = [
        step for step in (tiny_steps() if settings.tiny else steps()) if step.name.startswith(settings.only or "")
    ]
    gpus = _output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    about = {"gpu": ", ".join(gpus), "commit": _commit()}
    with (folder / "log.txt").open("a") as log, _plan(about["gpu"], folder / "plan.json", log) as planned:
        for step in wanted:
            if "result" in lines.get(step.name, ()):
                continue
            command = step.command
            if step.planned and (plan := planned()) is not None:
                command += f" --plan {shlex.quote(str(plan))}"
            limit = min(step.limit, until - time.monotonic())
            outcome = _run(command, limit, log) if limit > 0 else {"failed": "no time left", "seconds": 0.0}
            date = datetime.now(UTC).date().isoformat()
            lines[step.name] = {"step": step.name, "command": command, **outcome, **about, "date": date}
            results.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
            (folder / "results.md").write_text(markdown(list(lines.values())))
            print(f"{step.name}: {outcome.get('failed', 'done')}, {outcome['seconds']} s", flush=True)
    print(markdown(list(lines.values())))


def _run(command: str, limit: float, log: IO[str]) -> dict[str, Any]:
    """Run a benchmark. Return the JSON of its last line or the reason why it has none, and the seconds that it took.

    A benchmark that prints results on the way has one even if it is stopped. `stopped` is then the reason.
    """
    started, stopped = time.monotonic(), {}
    process = _start(command, log, stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=limit)
        reason = f"exit status {process.returncode}"
    except subprocess.TimeoutExpired:
        _end(process)
        output, _ = process.communicate()
        reason = f"stopped after {limit:.3g} s"
        stopped = {"stopped": reason}
    log.write(output)
    log.flush()
    seconds = {"seconds": round(time.monotonic() - started, 1)}
    try:
        result = json.loads(output.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        return {"failed": reason, **seconds}
    rows = result["rows"] if isinstance(result.get("rows"), list) else []
    reasons = [row["failed"] for row in rows if "failed" in row]
    return {"failed": reasons[0], **seconds} if reasons else {"result": result, **stopped, **seconds}


@contextmanager
def _plan(gpu: str, file: Path, log: IO[str]) -> Iterator[Callable[[], Path | None]]:
    """Run `ugs plan` for one such GPU inside this context, and give a function that ends it and returns its answer."""
    names = [name for name in GPUS if name in gpu.lower()]
    process = None
    if names and not file.exists():
        command = f"ugs_jax.cli plan {_LARGEST} --topology {names[0]}:1 --compiles 3 --json"
        with file.with_suffix(".part").open("w") as answer:
            process = _start(command, log, answer, environment={"JAX_PLATFORMS": "cpu"}, priority=19)

    def answer_so_far() -> Path | None:
        if process is not None and process.poll() == 0 and not file.exists():
            file.with_suffix(".part").rename(file)
        _end(process)
        return file if file.exists() else None

    try:
        yield answer_so_far
    finally:
        answer_so_far()


def _start(
    command: str, log: IO[str], stdout: Any, *, environment: dict[str, str] | None = None, priority: int = 0
) -> "subprocess.Popen[str]":
    words = [os.environ.get("PYTHON", sys.executable), "-m", *shlex.split(command)]
    log.write(f"\n$ {shlex.join(words)}\n")
    log.flush()
    return subprocess.Popen(
        words if not priority else ["nice", "-n", str(priority), *words],
        stdout=stdout,
        stderr=log,
        text=True,
        start_new_session=True,  # so that its workers end with it
        env={**os.environ, **(environment or {})},
    )


def _end(process: "subprocess.Popen[str] | None") -> None:
    if process is not None and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _output_of(*words: str) -> str:
    """Return the output of a command; an empty text if it does not exist or fails."""
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _commit() -> str:
    return _output_of("git", "describe", "--always", "--dirty") or "unknown"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
