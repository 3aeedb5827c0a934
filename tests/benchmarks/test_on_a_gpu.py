import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import on_a_gpu
from experiments.benchmarks.gpu_report import markdown
from experiments.benchmarks.largest_batch import planned_batches, search
from experiments.benchmarks.on_a_gpu import Settings, Step
from tests.flags import QUICK_FLAGS
from ugs_jax.planning.program import Footprint

ROOT = Path(__file__).parents[2]


def lines_of(folder):
    return {line["step"]: line for line in map(json.loads, (folder / "results.jsonl").read_text().splitlines())}


def test_a_step_that_fails_or_is_slow_does_not_stop_the_others_and_a_second_call_runs_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    file = tmp_path / "result.json"
    steps = [
        Step("absent", f"json.tool --compact {file}", 60),
        Step("slow", "timeit -n1 -s 'import time' 'time.sleep(60)'", 0.5),
        Step("present", f"json.tool --compact {tmp_path / 'other.json'}", 60),
    ]
    (tmp_path / "other.json").write_text('{"figure": 1.5}')
    monkeypatch.setattr(on_a_gpu, "steps", lambda: steps)
    on_a_gpu.main(Settings(tmp_path / "out"))
    lines = lines_of(tmp_path / "out")
    assert {name: line.get("failed") for name, line in lines.items()} == {
        "absent": "exit status 2",
        "slow": "stopped after 0.5 s",
        "present": None,
    }
    assert lines["present"]["result"] == {"figure": 1.5}
    assert "| present | `figure` 1.5 |" in (tmp_path / "out" / "results.md").read_text()
    file.write_text('{"figure": 2.5}')
    (tmp_path / "other.json").unlink()
    on_a_gpu.main(Settings(tmp_path / "out", only=("absent", "present")))
    assert [line["result"]["figure"] for line in lines_of(tmp_path / "out").values() if "result" in line] == [2.5, 1.5]
    on_a_gpu.main(Settings(tmp_path / "out", total=0))
    assert lines_of(tmp_path / "out")["slow"]["failed"] == "no time left"
    capsys.readouterr()


class Stopped:
    """A process that has printed a line when its time is over, and then ends."""

    def communicate(self, timeout=None):
        if timeout is not None:
            raise subprocess.TimeoutExpired("benchmark", timeout)
        return '{"figure": 1}\n', None

    def poll(self):
        return -9


def test_a_benchmark_that_is_stopped_keeps_what_it_printed(monkeypatch):
    monkeypatch.setattr(on_a_gpu, "_start", lambda *_, **__: Stopped())
    line = on_a_gpu._run("benchmark", 5, io.StringIO())
    assert (line["result"], line["stopped"]) == ({"figure": 1}, "stopped after 5 s")


def test_a_training_step_without_pytorch_has_a_row_with_the_reason():
    side = {"images_per_second": 123.456, "mfu": 0.25, "device_peak": 2**31, "compiled_peak": 1, "warmup_seconds": 9.5}
    row = {"batch": 64, "jax": side, "host_wait_share": 0.015, "jax_over_torch": None, "jax_over_torch_interval": None}
    line = {"step": "train n", "command": "x", "seconds": 1, "result": {}}
    line["result"] = {"benchmark": "train_step", "rows": [{**row, "torch_failed": "too slow"}]}
    assert "| train n | 64 | 123.5 | too slow | – | 0.25 | – | 1.5% | 2.00 | – | 9.5 | – |" in markdown([line])


def test_other_results_have_the_figures_that_their_benchmark_leads_with():
    cost = {"benchmark": "step_cost", "time_ratio": 1.06, "time_ratio_interval": [1.0, 1.1], "memory_ratio": 1.08}
    rows = {"whole 8": {"jax": {"ms": 5.1}, "torch": {"ms": 7.25}}}
    results = {"step cost": {**cost, "dtype": 0.5}, "prediction": {"benchmark": "prediction", "rows": rows}}
    table = markdown([{"step": step, "command": "x", "seconds": 9, "result": each} for step, each in results.items()])
    assert "| step cost | `time_ratio` 1.06, `time_ratio_interval` [1.0, 1.1], `memory_ratio` 1.08 | 9 |" in table
    assert "| whole 8 | jax 5.1, torch 7.25 |" in table


def test_the_search_starts_with_what_the_plan_says_and_goes_on_with_what_the_device_does():
    tried = []

    def train_on(batch):
        tried.append(batch)
        return Footprint(fits=batch <= 90, peak=10 * batch)

    found = search(train_on, [100, 104], start=8, limit=1000, trials=4)
    assert tried[:2] == [100, 104]
    assert found.largest in tried
    assert found.largest <= 90
    assert found.too_large == min(batch for batch in tried if batch > 90)
    tried.clear()
    assert search(train_on, [], start=8, limit=1000, trials=1).largest == 8


def test_a_plan_for_several_chips_is_refused(tmp_path):
    (tmp_path / "plan.json").write_text('{"h200:8": {"chips": 8, "largest_batch": 64, "batch_too_large": 72}}')
    with pytest.raises(ValueError, match="expected a plan for one chip, got h200:8"):
        planned_batches(tmp_path / "plan.json")


@pytest.mark.slow
def test_everything_for_a_gpu_runs_on_a_cpu_at_a_small_scale(tmp_path):
    python = tmp_path / "python"
    toy = f'"{ROOT}/tests/benchmarks/with_toy.py"'
    python.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *train_step|*largest_batch) exec "{sys.executable}" {toy} "$@";; esac\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "XLA_FLAGS": os.environ.get("XLA_FLAGS", QUICK_FLAGS)}
    script, out = ROOT / "experiments" / "benchmarks" / "on_a_gpu.sh", tmp_path / "out"
    subprocess.run([script, "--folder", out, "--tiny", "--total", "3000"], cwd=tmp_path, env=environment, check=True)
    lines = lines_of(out)
    log = (out / "log.txt").read_text()
    assert {name for name, line in lines.items() if "failed" in line} == {"too slow"}, log
    assert lines["largest batch"]["result"]["trained_largest"] == 1, log
    table = (out / "results.md").read_text()
    for step in ("train p 128 float32", "largest batch"):
        assert f"| {step} |" in table
