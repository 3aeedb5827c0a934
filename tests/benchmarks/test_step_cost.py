import jax.numpy as jnp
import numpy as np
import pytest

from tests.benchmarks.running import result_with_the_toy
from ugs_jax.analysis.step_cost import CompiledStep, interleave, ratio_of_medians

pytestmark = pytest.mark.slow


def test_a_ratio_of_medians_lies_in_its_interval_and_ignores_outliers():
    rng = np.random.default_rng(0)
    below = 1.0 + 0.05 * rng.random(50)
    above = 1.5 * below
    above[3] = 1000.0
    ratio, (low, high) = ratio_of_medians(above.tolist(), below.tolist())
    assert low <= ratio <= high
    np.testing.assert_allclose(ratio, 1.5, rtol=0.01)  # the one outlier shifts the median by one rank of 5 % / 50
    assert high < 1.55


def test_equal_times_have_the_ratio_one():
    assert ratio_of_medians([2.0, 3.0, 4.0], [2.0, 3.0, 4.0]) == (1.0, [1.0, 1.0])


def test_programs_run_in_turns_in_alternating_order_on_their_own_state():
    calls = []

    def program(name):
        def step(state, batch):
            calls.append((name, int(state), batch))
            return state + 1, {}

        return CompiledStep(step, lambda: jnp.zeros((), jnp.int32), {})

    times = interleave([program("a"), program("b")], [10, 20], repeats=2, warmup=1)
    assert calls == [("b", 0, 10), ("a", 0, 10), ("a", 1, 20), ("b", 1, 20), ("b", 2, 10), ("a", 2, 10)]
    assert [len(kind) for one in times for kind in one] == [2, 2, 2, 2]


@pytest.mark.slow
def test_the_last_line_of_the_benchmark_is_json_with_both_ratios(monkeypatch, capsys):
    arguments = "--size p --no-p2 --image-size 128 128 --batch-size 2 --max-boxes 8 --repeats 2 --warmup 1 --batches 1"
    result = result_with_the_toy("step_cost", arguments, monkeypatch, capsys)
    assert result["time_ratio"] > 0
    assert result["memory_bytes"]["ugs"]["peak"] / result["memory_bytes"]["ciou"]["peak"] == pytest.approx(
        result["memory_ratio"], abs=1e-4
    )
    assert result["memory_ratio"] > 1  # wider localization layers: parameters, optimizer and averages
