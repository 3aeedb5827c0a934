import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipeline import LoaderOptions
from experiments.benchmarks import train_step
from experiments.benchmarks.flops import gradient_flops, jaxpr_flops
from experiments.benchmarks.train_step import Case, Settings, batch_size, frameworks, peak_rate
from experiments.benchmarks.training_sides import Problem, Worker
from experiments.benchmarks.training_table import Turns, comparison
from tests.benchmarks.running import result_with_the_toy
from tests.training.toy import random_batch, toy_detector_with, toy_experiment
from ugs_jax.detectors import COCO_ANCHORS, Architecture, Detector
from ugs_jax.experiment import LossWeights
from ugs_jax.objectives import BoxRegression

pytestmark = pytest.mark.slow


def convolution(x, kernel, stride):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)


def test_products_cost_two_flops_a_multiply_add_inside_of_inner_programs_too():
    a, b = jnp.zeros((3, 5)), jnp.zeros((5, 7))
    assert jaxpr_flops(jax.make_jaxpr(jnp.matmul)(a, b).jaxpr) == 2 * 3 * 5 * 7
    inner = jax.make_jaxpr(jax.checkpoint(jax.jit(lambda a, b: jnp.sin(a @ b) + 1)))(a, b)
    assert jaxpr_flops(inner.jaxpr) == 2 * 3 * 5 * 7


@pytest.mark.parametrize("stride", [1, 2])
def test_each_gradient_of_a_convolution_has_the_flops_of_the_convolution(stride):
    x, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    forward = jaxpr_flops(jax.make_jaxpr(lambda x, k: convolution(x, k, stride))(x, kernel).jaxpr)
    assert forward == 2 * 2 * (8 // stride) ** 2 * 5 * 3 * 3 * 3
    both = jax.make_jaxpr(lambda x, k, y: jax.vjp(lambda *a: convolution(*a, stride), x, k)[1](y))
    cotangent = jnp.zeros((2, 8 // stride, 8 // stride, 5))
    assert jaxpr_flops(both(x, kernel, cotangent).jaxpr) == 3 * forward


def test_a_step_of_yolov5n_costs_three_times_its_kernels_at_every_cell():
    """Less the gradient in the images, and the layer that localizes, which is applied to three candidates a level."""
    detector = Detector(Architecture("n", False, 80, COCO_ANCHORS), BoxRegression())
    params, _ = jax.eval_shape(lambda: detector.init(0))
    strides = {
        ("backbone", "stem"): 2,
        **{("backbone", part, str(i)): 4 * 2**i for part in ("downs", "blocks") for i in range(4)},
        ("backbone", "pool"): 32,
        **{("neck", part, str(i)): 16 * 2**i for part in ("downs", "bottoms") for i in range(2)},
        **{("neck", part, str(i)): 32 // 2**i // at for part, at in (("laterals", 1), ("tops", 2)) for i in range(2)},
        **{("heads", str(i)): 8 * 2**i for i in range(3)},
    }
    cost = dict.fromkeys(strides, 0.0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        names = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        (part,) = [part for part in strides if part == tuple(names[: len(part)])]
        if names[-1] == "kernel" and "localize" not in names:
            cost[part] += 2 * leaf.size * (640 / strides[part]) ** 2
    found = gradient_flops(detector, LoaderOptions((64, 64), 1, max_boxes=1, max_ignore=1), LossWeights()) * 100
    wanted = 3 * sum(cost.values()) - cost["backbone", "stem"]
    assert wanted < found < 1.001 * wanted
    # Published at 640² with 80 classes: 4.56 GFLOPs forward, localization everywhere and batch normalisation included.
    assert sum(cost.values()) == pytest.approx(4.56e9, rel=0.03)


def test_a_known_gpu_has_the_peak_of_its_vendor_and_an_unknown_device_what_was_measured():
    assert peak_rate("NVIDIA H100 80GB HBM3", "bfloat16", [1.0])[0] == 989e12
    assert peak_rate("NVIDIA A100-SXM4-80GB", "float32", [1.0])[0] == 156e12
    assert peak_rate("cpu", "float32", [3.0, 5.0, 4.0]) == (5.0, "measured product of matrices")


def test_ratios_above_one_mean_that_jax_is_faster():
    jax_turns, torch_turns = Turns([1.0, 1.0], [3.0, 3.0], {}, []), Turns([2.0, 2.0], [1.5, 1.5], {}, [])
    found = comparison([jax_turns, torch_turns])
    assert found["jax_over_torch"] == 2
    assert found["jax_over_torch_interval"] == [2, 2]
    assert found["processor_ratio"] == 0.5
    assert set(comparison([jax_turns]).values()) == {None}


def test_large_images_and_sizes_come_in_smaller_batches():
    on_cpu = [batch_size(Case("n", side, "float32"), Settings()) for side in (320, 640, 1536)]
    assert on_cpu == [2, 2, 1]
    assert batch_size(Case("x", 1536, "float32"), Settings(batch=7)) == 7


def test_pytorch_is_left_out_of_ugs_and_on_request():
    assert frameworks(Settings(objective="ugs")) == ("jax",)
    assert frameworks(Settings(torch="none")) == ("jax",)


def test_counts_below_one_are_refused_before_compiling():
    with pytest.raises(ValueError, match="--load-steps: expected at least 1, got 0"):
        Settings(load_steps=0)


def test_a_case_that_cannot_run_is_named_and_the_others_go_on(monkeypatch, capsys):
    def measure(case, settings, say):
        if case.dtype == "float32":
            raise ChildProcessError("torch: expected an answer, but the process ended with -9")
        return {"mfu": 0.25, "jax_over_torch": None, "host_wait_share": 0.1}

    monkeypatch.setattr(train_step, "measure", measure)
    monkeypatch.setattr(train_step, "print_table", lambda *_: None)
    train_step.main(Settings(dtypes=("float32", "bfloat16")))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "ended with -9" in result["rows"][0]["failed"]
    assert (result["mfu"], result["jax_over_torch"], result["host_wait_share"]) == (0.25, None, 0.1)


@pytest.mark.slow
def test_a_process_that_ends_is_an_error_with_its_exit_code():
    experiment = toy_experiment()
    detector = toy_detector_with(experiment, COCO_ANCHORS, 3)
    worker = Worker("jax", Problem(experiment, detector, [random_batch()], 1, False))
    worker.ready()
    with pytest.raises(ChildProcessError, match="jax: expected an answer, but the process ended with 1"):
        worker.ask("product_rate", -1, "float32")
    worker.close()


@pytest.mark.slow
def test_the_last_line_of_the_benchmark_is_json_with_speed_utilisation_and_waiting(monkeypatch, capsys):
    arguments = (
        "--sizes p --image-sizes 128 --batch 2 --repeats 2 --warmup 1 --load-steps 2 --torch none --threads 1 "
        "--max-boxes 8 --product 64"
    )
    result = result_with_the_toy("train_step", arguments, monkeypatch, capsys)
    (row,) = result["rows"]
    assert (row["size"], row["image_size"], row["batch"]) == ("p", 128, 2)
    assert row["jax"]["images_per_second"] > 0
    assert row["jax"]["compiled_peak"] > 0
    assert 0 < row["jax"]["resident_before"] < row["jax"]["resident_peak"]
    seconds = 2 / row["jax"]["images_per_second"]
    assert (
        result["mfu"]
        == row["mfu"]
        == pytest.approx(row["model_flops_per_step"] / seconds / row["peak_flops"], abs=1e-4)
    )
    assert 0 <= result["host_wait_share"] == row["host_wait_share"] <= 1
    assert result["jax_over_torch"] is None
    assert np.isfinite(row["loader_images_per_second"])
    assert importlib.util.find_spec("torch") is None or "torch" not in row
