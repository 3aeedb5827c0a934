"""Plans: footprint of a compiled step, search for the largest batch, and the command."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest

from data_pipeline.cache import default_cache_dir
from tests.compiling import compiled_quickly
from tests.data_pipeline.coco_folder import CONTENT, write
from tests.training.toy import toy_detector_with, toy_experiment
from ugs_jax.cli import main
from ugs_jax.experiment import Experiment
from ugs_jax.planning import plan_training
from ugs_jax.planning.batch_search import largest_batch
from ugs_jax.planning.collectives import Collective
from ugs_jax.planning.hardware import HARDWARE, GiB, parse_topology
from ugs_jax.planning.plan import EFFICIENCY, Roofline, repeated, roofline_of
from ugs_jax.planning.program import Footprint, batch_shapes, measure, read_refusal
from ugs_jax.runs import device_mesh

needs_tpu_compiler = pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the extra tpu")
needs_gpu_compiler = pytest.mark.skipif(
    not any(importlib.util.find_spec(f"jax_cuda{version}_plugin") for version in (12, 13)),
    reason="needs the extra cuda12",
)
V5E = parse_topology("v5e:2x2")


def test_work_and_memory_of_a_convolution_are_those_counted_by_hand():
    def convolve(images, kernel):
        return jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    shapes = jax.ShapeDtypeStruct((2, 10, 12, 3), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)
    found = measure(jax.jit(convolve).lower(*shapes))
    assert found.flops == 2 * (2 * 8 * 10 * 5) * (3 * 3 * 3)
    assert found.arguments == 4 * (2 * 10 * 12 * 3 + 3 * 3 * 3 * 5)
    assert found.outputs == 4 * 2 * 8 * 10 * 5
    assert found.collectives == {}


@pytest.mark.parametrize(
    ("message", "peak"),
    [
        ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm. Exceeded", 20 * GiB),
        ("Ran out of memory on HBM, the total memory required for HLO temporaries (1.5G) exceeds", 3 * GiB // 2),
        ("RESOURCE_EXHAUSTED: Ran out of memory on HBM.", None),
    ],
)
def test_a_program_that_does_not_fit_gives_a_footprint(message, peak):
    assert read_refusal(jax.errors.JaxRuntimeError(message)) == Footprint(False, peak)


def test_another_error_of_the_compiler_stays_an_error():
    with pytest.raises(jax.errors.JaxRuntimeError, match="Mosaic failed"):
        read_refusal(jax.errors.JaxRuntimeError("INTERNAL: Mosaic failed"))


def linear(peak_of, limit, calls, told=True):
    def footprint_of(batch):
        calls.append(batch)
        fits = peak_of(batch) <= limit
        return Footprint(fits, peak_of(batch) if fits or told else None)

    return footprint_of


@pytest.mark.parametrize("first", [8, 64, 4096])
@pytest.mark.parametrize("told", [True, False], ids=["size told", "size not told"])
@pytest.mark.parametrize("bend", [0.0, 0.002], ids=["a line", "a curve"])
def test_the_largest_batch_is_found_to_a_sixteenth(first, told, bend):
    limit, calls = 1000, []
    footprint_of = linear(lambda batch: round(100 + 2 * batch + bend * batch**2), limit, calls, told)
    found = largest_batch(footprint_of, {first: footprint_of(first)}, 8, limit, 12)
    truth = max(batch for batch in range(8, 1000, 8) if 100 + 2 * batch + bend * batch**2 <= limit)
    assert found.largest <= truth < found.too_large <= found.largest + max(8, found.largest / 16)
    assert len(calls) == len(set(calls)) <= 12
    assert not any(batch % 8 for batch in calls)


def test_a_search_with_linear_memory_needs_three_guesses():
    calls = []
    footprint_of = linear(lambda batch: 100 + 2 * batch, 1000, calls)
    found = largest_batch(footprint_of, {8: footprint_of(8)}, 8, 1000, 12)
    assert (found.largest, calls) == (448, [8, 16, 128, 448, 472]), (
        "twice the batch, at most eight times, the line, more"
    )


def test_a_search_ends_when_its_guesses_are_used_or_nothing_fits():
    calls = []
    footprint_of = linear(lambda batch: 10 * batch, 1000, calls)
    assert largest_batch(footprint_of, {8: footprint_of(8)}, 8, 1000, 0).largest == 8
    assert len(calls) == 1
    none = largest_batch(linear(lambda _: 2000, 1000, calls), {64: Footprint(False, None)}, 8, 1000, 9)
    assert (none.largest, none.too_large) == (None, 8)


def test_a_roofline_is_the_slowest_of_three():
    chip = HARDWARE["h200"]
    found = Footprint(True, 1, flops=chip.bfloat16, accessed=3 * chip.bandwidth, collectives={})
    assert roofline_of(found, chip, 8, "bfloat16") == Roofline(1.0, 3.0, 0.0)
    slow = roofline_of(replace(found, accessed=0.0), chip, 8, "float32")
    assert (slow.seconds, slow.limit) == (2.0, "compute")


def test_shapes_of_a_batch_are_those_the_loader_makes(tmp_path):
    from data_pipeline import TrainLoader

    experiment = toy_experiment()
    loader = TrainLoader(experiment.data.open("train", tmp_path), experiment.loader)
    batch = next(iter(loader.batches(0)))
    describe = lambda arrays: [(array.shape, array.dtype) for array in arrays]  # noqa: E731
    assert describe(batch_shapes(experiment.loader)) == describe(batch)


@pytest.fixture(scope="module")
def plan():
    """Of the toy on one CPU, judged as a v5e."""
    with compiled_quickly():
        return plan_training(
            toy_experiment(), V5E, classes=2, images=12, mesh=device_mesh(1), detector_of=toy_detector_with
        )


def test_a_plan_opens_no_data_and_adds_up(plan):
    found, values = plan.footprint, plan.json()
    assert plan.fits
    assert plan.steps == 2 * 3
    assert found.peak == values["peak_bytes_per_chip"]
    # The step does not use, and so is not given, a batch's image_id, original_size and letterbox.
    assert sum(plan.contents.values()) == pytest.approx(found.peak, abs=4 * 4 * (1 + 2 + 3))
    assert plan.state["parameters"] == plan.state["averages"]
    assert plan.state["batch"] == sum(leaf.size * leaf.dtype.itemsize for leaf in batch_shapes(toy_experiment().loader))
    assert values["largest_batch"] is None
    assert values["hbm_bytes_per_chip"] == 16 * GiB
    assert values["chip_hours"] == pytest.approx(6 * plan.roofline.seconds / 3600)
    assert plan.chip_hours(EFFICIENCY) == pytest.approx(plan.chip_hours() / EFFICIENCY)
    assert json.loads(json.dumps(values)) == values


@pytest.mark.slow
def test_a_plan_counts_all_parts_of_a_batch(plan):
    with compiled_quickly():
        parts = plan_training(
            toy_experiment(accumulate=2), V5E, classes=2, images=12, mesh=device_mesh(1), detector_of=toy_detector_with
        )
    assert parts.steps == plan.steps
    assert parts.footprint.flops == pytest.approx(plan.footprint.flops, rel=0.25)  # the update is counted twice


def test_counts_of_one_part_are_multiplied_by_the_number_of_parts():
    sent = {"all-reduce": Collective(3, 40)}
    found = repeated(Footprint(True, 1, flops=2.0, accessed=5.0, collectives=sent), 4)
    assert (found.flops, found.accessed, found.peak) == (8.0, 20.0, 1)
    assert found.collectives == {"all-reduce": Collective(12, 160)}


def test_a_plan_looks_for_the_largest_batch(monkeypatch):
    def program(experiment, *_):
        return experiment.loader.batch_size, {}

    monkeypatch.setattr("ugs_jax.planning.plan.program_of", program)
    monkeypatch.setattr(
        "ugs_jax.planning.plan.measure", lambda batch, *_: Footprint(True, batch * GiB // 100, flops=1.0)
    )
    plan = plan_training(toy_experiment(), V5E, classes=2, compiles=9, mesh=device_mesh(1))
    assert 0.93 * 1600 <= plan.search.largest <= 1600 < plan.search.too_large
    assert plan.json()["largest_batch"] == plan.search.largest
    hopper = replace(V5E, hardware=HARDWARE["h200"])
    plan = plan_training(toy_experiment(), hopper, classes=2, compiles=9, mesh=device_mesh(1))
    assert plan.search.largest <= 75 * 141
    plan = plan_training(toy_experiment(accumulate=4), V5E, classes=2, compiles=9, mesh=device_mesh(1))
    assert not any(batch % 4 for batch in plan.search.tried)


def test_results_are_cached_by_program_devices_and_options(tmp_path, monkeypatch):
    lowered = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((4,), jnp.float32))
    first = measure(lowered, "v5e:2x2", tmp_path)
    monkeypatch.setattr("ugs_jax.planning.program.read_footprint", lambda _: Footprint(False, 7))
    assert measure(lowered, "v5e:2x2", tmp_path) == first
    assert measure(lowered, "v5e:4x4", tmp_path) == Footprint(False, 7)
    assert measure(lowered, "v5e:2x2", tmp_path, {"xla_backend_optimization_level": "0"}) == Footprint(False, 7)


@pytest.mark.parametrize("left", ['{"fits": tr', '{"fits": true, "of_another_version": 1}', "[]"])
def test_a_damaged_or_outdated_cached_result_is_ignored(tmp_path, left):
    lowered = jax.jit(lambda x: x + 1).lower(jax.ShapeDtypeStruct((4,), jnp.float32))
    first = measure(lowered, "v5e:2x2", tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_text(left)
    assert measure(lowered, "v5e:2x2", tmp_path) == first == measure(lowered, "v5e:2x2", tmp_path)
    assert file.read_text() != left


@needs_tpu_compiler
def test_the_step_compiles_for_tpus_that_are_not_attached(monkeypatch, plan):
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    four = plan_training(toy_experiment(), V5E, classes=2, detector_of=toy_detector_with)
    assert four.fits
    assert four.chips == 4
    assert four.chip_hours() is None
    # Gradients of all parameters are summed; each of four devices does a quarter of the work of one.
    assert four.footprint.collectives["all-reduce"].bytes >= plan.state["parameters"] - 4 * 3
    assert 4 * four.footprint.flops == pytest.approx(plan.footprint.flops, rel=0.2)


@needs_gpu_compiler
def test_the_step_compiles_for_gpus_that_are_not_attached(plan):
    two = plan_training(toy_experiment(), parse_topology("h200:2"), classes=2, detector_of=toy_detector_with)
    assert two.fits
    assert two.footprint.collectives["all-reduce"].bytes >= plan.state["parameters"] - 4 * 3
    assert 2 * two.footprint.flops == pytest.approx(plan.footprint.flops, rel=0.2)
    assert two.footprint.accessed > two.footprint.arguments


class Compilation(NamedTuple):
    """Arguments that the stand-in for the compiler was given."""

    experiment: Experiment
    classes: int
    devices: str
    cache: Path | None
    options: Mapping[str, Any]


def bytes_per_image(dtype, remat):
    return (100 << 20) // (2 if dtype == "bfloat16" else 1) // (2 if remat else 1)


@pytest.fixture
def compilations(monkeypatch):
    """Only the compiler is replaced: memory and work are linear in the batch, memory also depends on the variant."""
    done = []

    def program(experiment, mesh, classes, detector_of):
        return (experiment, classes), {"parameters": 1 << 20, "optimizer state": 2 << 20}

    def compile_it(lowered, devices, cache, options):
        done.append(Compilation(*lowered, devices, cache, options))
        experiment, _ = lowered
        network, batch = experiment.network, experiment.loader.batch_size
        peak = batch * bytes_per_image(network.dtype, network.remat)
        return Footprint(
            True,
            peak,
            arguments=4 << 20,
            temporaries=peak - (4 << 20),
            flops=1e12 * batch,
            accessed=1e9,
            collectives={},
        )

    monkeypatch.setattr("ugs_jax.planning.plan.program_of", program)
    monkeypatch.setattr("ugs_jax.planning.plan.measure", compile_it)
    for module in ("hardware", "plan"):
        monkeypatch.setattr(f"ugs_jax.planning.{module}.topology_devices", lambda _: jax.devices()[:1])
    return done


def test_the_command_prints_json_for_every_topology_and_variant(compilations, capsys):
    words = ["--topology", "v5e:2x2", "--epochs", "3", "--topology", "v5p:2x2x1", "v6e:2x2", "--json", "--variants"]
    assert main(["plan", "first_light_ciou", *words, "--compiles", "12"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert list(found) == ["v5e:2x2", "v5p:2x2x1", "v6e:2x2"]
    for name, topology in found.items():
        chip = HARDWARE[name.partition(":")[0]]
        variants = [topology, *topology["variants"]]
        assert {(v["dtype"], v["remat"]) for v in variants} == set(product(("float32", "bfloat16"), (False, True)))
        for variant in variants:
            size = bytes_per_image(variant["dtype"], variant["remat"])
            peak = chip.bfloat16 if variant["dtype"] == "bfloat16" else chip.float32
            assert variant["fits"]
            assert variant["hbm_bytes_per_chip"] == chip.memory
            assert variant["peak_bytes_per_chip"] == 8 * size
            assert variant["largest_batch"] * size <= chip.memory < variant["batch_too_large"] * size
            assert variant["flops_per_step"] == 8e12
            assert variant["step_seconds"] == max(8e12 / peak, 1e9 / chip.bandwidth)
            assert variant["steps"] == 3 * 512 // 8
            assert variant["collective_bytes_per_step"] == 0
    assert not any(topology["quick"] for topology in found.values())
    assert {compilation.classes for compilation in compilations} == {2}
    assert {compilation.cache for compilation in compilations} == {default_cache_dir() / "plans"}
    assert {compilation.devices.partition(" ")[0] for compilation in compilations} == set(found)
    assert "v6e:2x2: compiling for a batch of 8, bfloat16, with rematerialisation" in told.err


def test_the_command_prints_what_fills_the_memory(compilations, capsys):
    assert main(["plan", "first_light_ciou", "--topology", "v5e:2x2", "--fresh", "--no-search", "--quick"]) == 0
    told = capsys.readouterr().out
    assert "least effort" in told
    lines = [
        "batch             8 images over 1 chip",
        "memory per chip   fits: 800 MiB of 16 GiB, 100% of it usable",
        "optimizer state   2 MiB",
        "temporaries       796 MiB",
        "step, roofline    40.6 ms, limited by compute",
        f"chip-hours        {6 * 64 * 8e12 / 197e12 / 3600:.3g} for 384 steps at the roofline",
    ]
    assert [line for line in lines if line not in told] == []
    assert "197 TFLOP/s" in told
    assert "largest batch" not in told
    (compilation,) = compilations
    assert compilation.cache is None
    assert compilation.options == V5E.hardware.compiler_options(quick=True)


def steps_planned(capsys, config, *words):
    """The number of steps that `ugs plan` prints for a config of one epoch in batches of one image."""
    words = ["--topology", "v5e:2x2", "--json", "--no-search", "--epochs", "1", "--loader.batch-size", "1", *words]
    assert main(["plan", str(config), *words]) == 0
    return json.loads(capsys.readouterr().out)["v5e:2x2"]["steps"]


def test_the_command_names_the_option_that_is_missing_without_the_data(compilations, tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from pathlib import Path\nfrom data_pipeline import CocoJson\nfrom ugs_jax.experiment import Experiment\n"
        "a, b = Path('a'), Path('a.json')\n"
        "experiment = Experiment(name='mine', data=CocoJson(a, b, a, b))\n"
    )
    assert main(["plan", str(file), "--topology", "v5e:2x2"]) == 1
    assert "or give the number of classes: --classes N" in capsys.readouterr().err
    assert compilations == []
    assert steps_planned(capsys, file, "--classes", "3") is None
    assert compilations[0].classes == 3


COCO = "CocoJson(here, here / 'train.json', here, here / 'train.json')"


@pytest.mark.parametrize(("data", "images"), [(COCO, 3), ("VisDrone(here)", 2), ("VisDrone(here / 'nowhere')", None)])
def test_the_command_counts_the_training_images_in_local_files(compilations, tmp_path, capsys, data, images):
    write(tmp_path, CONTENT)
    (tmp_path / "VisDrone2019-DET-train" / "images").mkdir(parents=True)
    for name in ("0.jpg", "1.jpg", "note.txt"):
        (tmp_path / "VisDrone2019-DET-train" / "images" / name).touch()
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nfrom data_pipeline import CocoJson, VisDrone\n"
        f"from ugs_jax.experiment import Experiment\nhere = Path({str(tmp_path)!r})\n"
        f"experiment = Experiment(name='mine', data={data})\n"
    )
    assert steps_planned(capsys, tmp_path / "mine.py") == images
    assert steps_planned(capsys, tmp_path / "mine.py", "--images", "7") == 7


def test_a_missing_compiler_is_reported_before_another_is_used(monkeypatch, capsys):
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if "cuda" in name else installed(name))
    assert main(["plan", "first_light_ugs", "--topology", "h200:8", "v5e:2x2"]) == 1
    assert 'pip install ".[cuda12]"' in capsys.readouterr().err


def test_the_command_refuses_an_unknown_topology(capsys):
    assert main(["plan", "first_light_ugs", "--topology", "v5e:4x4", "v7:2x2"]) == 1
    assert "no figures for a chip 'v7'" in capsys.readouterr().err
