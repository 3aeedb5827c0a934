import functools
import json

import pytest
import tyro

from tests.training.toy import toy_detector_with
from ugs_jax.planning.collectives import Collective
from ugs_jax.planning.hardware import HARDWARE
from ugs_jax.planning.program import Footprint, program_of

pytestmark = pytest.mark.slow


@pytest.fixture
def benchmark(monkeypatch):
    for name in ("JAX_PLATFORMS", "ALLOW_MULTIPLE_LIBTPU_LOAD", "TPU_SKIP_MDS_QUERY", "XLA_FLAGS"):
        monkeypatch.setenv(name, "cpu" if name == "JAX_PLATFORMS" else "")  # importing it changes them
    from experiments.benchmarks import data_scaling

    return data_scaling


def test_efficiency_is_reduced_by_communication_and_repeated_work(benchmark):
    chip = HARDWARE["v5e"]  # 197 TFLOP/s, 200 GB/s
    alone = Footprint(True, 1, flops=197e9)
    four = Footprint(True, 1, flops=1.1 * 197e9, collectives={"all-reduce": Collective(3, 40_000_000)})
    row = benchmark.row("4 simulated", 4, four, alone, chip)
    assert row["sent_bytes"] == 60_000_000  # 2 * 3/4 of them
    assert (row["alone_ms"], row["sent_ms"], row["operations"]) == (1.0, 0.3, 3)
    assert row["efficiency"] == pytest.approx(1 / 1.4, abs=1e-4)
    assert benchmark.row("1 simulated", 1, alone, alone, chip)["efficiency"] == 1.0


def test_the_last_line_is_json_with_a_row_for_every_number_of_devices(benchmark, monkeypatch, capsys):
    toy = functools.partial(program_of, detector_of=toy_detector_with)
    monkeypatch.setattr(benchmark, "program_of", toy)
    arguments = ["--no-p2", "--image-size", "64", "64", "--images", "2", "--max-boxes", "4", "--devices", "1"]
    benchmark.main(tyro.cli(benchmark.Settings, args=arguments))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["devices"] for row in result["rows"]] == ["1 simulated"]
    assert result["rows"][0]["work"] == result["efficiency"] == 1.0
    assert result["rows"][0]["alone_ms"] > 0
