"""Several processes train one run: each reads its share, the result is that of one process, and all stop together."""

import itertools
import json
import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from data_pipeline import LoaderOptions, TinyScenes
from tests.flags import with_devices
from tests.training.toy import bits, rows, toy_experiment, toy_runs
from ugs_jax.evaluation import CocoScorer
from ugs_jax.runs import PreemptedError, device_mesh, load_for_inference
from ugs_jax.runs.host_state import gather_state, spread_state
from ugs_jax.training import loop, train

pytestmark = pytest.mark.slow

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
DEVICES = 8
EXPERIMENT = toy_experiment(
    data=TinyScenes(train_images=24, val_images=12, image_size=(64, 64)),
    loader=LoaderOptions(image_size=(64, 64), batch_size=8, max_boxes=8, max_ignore=3, threads=0),
    epochs=2,
)
STEPS = 6  # 24 images in batches of 8, 2 epochs; 12 validation images are one batch and a half
LAYERS = 2
# As in the tests of meshes: how far sums in another order can lie apart, of as many terms as a batch has pixels.
TOLERANCE = STEPS * LAYERS * np.sqrt(8 * 64 * 64) * np.finfo(np.float32).eps / 2


def begin(process: int, processes: int, port: int, folder: Path) -> None:
    """One process, with its share of the devices and a log."""
    with (folder / f"log-{process}.txt").open("w") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    os.environ["XLA_FLAGS"] = with_devices(DEVICES // processes)
    with toy_runs():
        work(process, processes, port, folder)
    if processes > 1:
        jax.distributed.shutdown()


def work(process: int, processes: int, port: int, folder: Path) -> None:
    """What each process does: a whole run, one that process 1 asks to stop, or one begun on a single device."""
    if processes > 1:
        jax.distributed.initialize(f"localhost:{port}", processes, process)
    assert jax.device_count() == DEVICES
    load = loop.TrainLoader.batches
    seen, scored = follow_batches(), follow_scores()
    train(EXPERIMENT, own(folder, "whole", process))
    np.savez(folder / f"scored-{process}.npz", **{name: np.concatenate(parts[-2:]) for name, parts in scored.items()})
    (folder / f"seen-{process}.json").write_text(json.dumps(seen))
    if processes == 1:
        train(EXPERIMENT, folder / "begun on one", resume=True)
    if processes == 2:
        assert_gathered_and_spread()
        follow_batches(stop_at=3 if process == 1 else None)
        try:
            train(EXPERIMENT, own(folder, "stopped", process))
        except PreemptedError as error:
            (folder / f"stopped-{process}.txt").write_text(str(error))
        loop.TrainLoader.batches = load
        if process == 0:
            shutil.copytree(folder / "stopped", folder / "bucket")
        os.environ["UGS_CACHE"] = str(folder / f"cache-{process}")
        resumed = train(EXPERIMENT, f"file://{folder}/bucket", resume=True)
        (folder / f"resumed-{process}.json").write_text(json.dumps([resumed.best, resumed.last]))


def own(folder, name, process):
    """Each process has a disk of its own; the run is on that of the first."""
    return Path(folder, f"disk-{process}" if process else "", name)


def assert_gathered_and_spread():
    """Arrays in parts, whole ones and small ones come back to the bit, on all devices."""
    mesh = device_mesh()
    numbers = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    numbers[0] = -0.0, np.nan, -np.inf
    tree = {"parts": numbers, "whole": numbers, "half": jnp.asarray(numbers, jnp.bfloat16), "step": np.int32(-1)}
    parted = {name: NamedSharding(mesh, P("data") if name == "parts" else P()) for name in tree}
    state = jax.tree.map(
        lambda leaf, to: jax.make_array_from_callback(np.shape(leaf), to, leaf.__getitem__), tree, parted
    )
    copy = gather_state(state)
    assert (copy is not None) == (jax.process_index() == 0)
    assert copy is None or bits(copy) == bits(tree)
    back = spread_state(copy, state)
    assert jax.tree.map(lambda leaf: leaf.sharding, back) == parted
    local = jax.tree.map(lambda leaf: [shard.data for shard in leaf.addressable_shards], (back, state))
    assert bits(local[0]) == bits(local[1])


def follow_batches(stop_at=None):
    """Note the images of every training batch that this process loads; be asked to stop at one of them."""
    seen, load = [], loop.TrainLoader.batches

    def batches(loader, start):
        with closing(load(loader, start)) as all_batches:
            for batch in all_batches:
                seen.append(batch.image_id.tolist())
                if stop_at is not None and len(seen) >= stop_at:
                    if len(seen) == stop_at:
                        os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(4)  # JAX looks for the signal once a second, and tells the others
                yield batch

    loop.TrainLoader.batches = batches
    return seen


def follow_scores():
    """Note what this process scores: two batches in each evaluation."""
    scored, add_batch = defaultdict(list), CocoScorer.add_batch

    def noted(scorer, found, batch):
        for name in ("boxes", "scores", "classes", "valid"):
            scored[name].append(np.array(getattr(found, name)))
        scored["image_id"].append(np.array(batch.image_id))
        scored["image"].append(np.array(batch.valid))
        add_batch(scorer, found, batch)

    CocoScorer.add_batch = noted
    return scored


def run_processes(count: int, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = [PROCESSES.Process(target=begin, args=(process, count, port, folder)) for process in range(count)]
    for process in started:
        process.start()
    for process in started:
        process.join(600)
        process.kill()  # one that still waits for another
    codes = [process.exitcode for process in started]
    assert codes == [0] * count, "\n".join((folder / f"log-{i}.txt").read_text()[-3000:] for i in range(count))


@pytest.fixture(scope="module", autouse=True)
def toy():
    with toy_runs():
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Of runs by 1, 2 and 4 processes, which have eight devices in all."""
    found = {}
    for count in (1, 2, 4):
        found[count] = tmp_path_factory.mktemp(f"processes{count}")
        if count == 1:
            train(EXPERIMENT, found[1] / "begun on one", stop_after=4)
        run_processes(count, found[count])
    return found


def read(folder):
    """Losses and scores of a run, one row a step."""
    names = ("loss", "box", "objectness", "classes", "gradient_norm", "positives")
    train_rows = [[row[name] for name in names] for row in rows(folder, "train")]
    return np.array(train_rows), [row["ap50"] for row in rows(folder, "eval")]


def assert_same_run(folder, other):
    (losses, scores), (want_losses, want_scores) = read(folder), read(other)
    np.testing.assert_allclose(losses, want_losses, rtol=2e-4)
    np.testing.assert_allclose(scores, want_scores, atol=1e-3)
    found, want = (load_for_inference(place, which="last")[1] for place in (folder, other))
    assert int(found.step) == int(want.step) == STEPS
    for kind in ("params", "stats", "ema_params", "ema_stats"):
        leaves = zip(jax.tree.leaves(getattr(found, kind)), jax.tree.leaves(getattr(want, kind)), strict=True)
        for leaf, wanted in leaves:
            assert np.linalg.norm(leaf - wanted) <= TOLERANCE * np.linalg.norm(wanted)


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_train_the_same_run_as_one_process(folders, count):
    assert len(read(folders[1] / "whole")[0]) == STEPS
    assert_same_run(folders[count] / "whole", folders[1] / "whole")
    assert (folders[count] / "whole" / "report.md").exists()
    assert (folders[count] / "whole" / "predictions.png").exists()


@pytest.mark.parametrize("count", [2, 4])
def test_each_process_reads_its_share_and_all_together_read_the_epochs(folders, count):
    (everything,) = seen_by(folders[1], 1)
    parts = seen_by(folders[count], count)
    for step in range(STEPS):
        shares = [part[step] for part in parts]
        assert [len(share) for share in shares] == [8 // count] * count
        assert sorted(itertools.chain(*shares)) == sorted(everything[step])
    for epoch in range(2):
        assert sorted(itertools.chain(*everything[3 * epoch : 3 * epoch + 3])) == list(range(24))


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_give_the_detections_of_one_also_in_a_partial_batch(folders, count):
    want = scored_by(folders[1], 0)
    assert want["image_id"].tolist() == list(range(12))
    assert want["valid"][8:].any()
    for process in range(count):
        found = scored_by(folders[count], process)
        for name in ("image_id", "valid", "classes"):
            np.testing.assert_array_equal(found[name], want[name], err_msg=name)
        for name in ("boxes", "scores"):  # pixels, and a share of 1
            np.testing.assert_allclose(found[name], want[name], rtol=TOLERANCE, atol=TOLERANCE * 64, err_msg=name)


def scored_by(folder, process):
    """What a process scored in the last evaluation, by image; rows that only fill up a batch count for nothing."""
    with np.load(folder / f"scored-{process}.npz") as scored:
        rows = np.flatnonzero(scored["image"])
        assert len(scored["image"]) == 16
        return {name: scored[name][rows[np.argsort(scored["image_id"][rows])]] for name in scored}


def seen_by(folder, count):
    return [json.loads((folder / f"seen-{process}.json").read_text()) for process in range(count)]


def test_all_processes_stop_after_the_same_step_when_one_is_asked_to(folders):
    first, second = ((folders[2] / f"stopped-{process}.txt").read_text() for process in range(2))
    assert first == second.replace("disk-1/", "")
    assert "asked to stop, and did after step" in first
    assert not (folders[2] / "stopped" / "report.md").exists()


def test_processes_without_a_shared_disk_continue_at_a_url_and_agree(folders):
    first, second = (json.loads((folders[2] / f"resumed-{process}.json").read_text()) for process in range(2))
    assert first == second
    assert_same_run(folders[2] / "bucket", folders[1] / "whole")
    assert (folders[2] / "bucket" / "report.md").exists()
    (working,) = (folders[2] / "cache-0" / "runs").iterdir()
    assert_same_run(working, folders[1] / "whole")
    assert not (folders[2] / "disk-1").exists()
    assert not (folders[2] / "cache-1" / "runs").exists()


def test_a_run_of_two_processes_and_eight_devices_continues_in_one_process_on_one_device(folders, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(folders[2] / "stopped", folder)
    train(EXPERIMENT, folder, resume=True)
    assert_same_run(folder, folders[1] / "whole")


def test_a_run_of_one_device_continues_on_eight(folders):
    assert_same_run(folders[1] / "begun on one", folders[1] / "whole")
