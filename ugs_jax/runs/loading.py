"""A trained detector read back from its run folder; needs no data set."""

from pathlib import Path

import jax
from jax.sharding import Mesh

from ugs_jax.detectors import TrainableDetector
from ugs_jax.experiment.config import Experiment
from ugs_jax.experiment.fitting import fitted_detector
from ugs_jax.runs.checkpoint import Checkpoints
from ugs_jax.runs.run_folder import RunFolder, read_experiment
from ugs_jax.runs.sharding import evaluation_mesh, replicated
from ugs_jax.runs.state import TrainState, create_state


def load_for_inference(
    folder: Path, experiment: Experiment | None = None, which: str = "best"
) -> tuple[TrainableDetector, TrainState, Mesh]:
    """Detector and state of a run, which was scored with the averages `ema_params` and `ema_stats`.

    The mesh is of as many devices as the run's batches can be split over. Anchors, grids and classes come from the
    run's `config.json`.

    Args:
      folder: the run.
      experiment: its config, if that has been read already.
      which: `best` or `last`.

    Raises:
      FileNotFoundError: no such run or checkpoint.
      ValueError: a config that this version cannot read.
    """
    run = RunFolder(folder)
    experiment = experiment or read_experiment(folder)
    detector = fitted_detector(experiment, run.read_fitted(experiment), len(run.read_classes()))
    # The schedule has no state of its own, so any will do to know the shapes.
    optimizer = experiment.optimizer.build(lambda _: 0.0)
    like = jax.eval_shape(lambda: create_state(detector, optimizer, 0))
    mesh = evaluation_mesh(experiment.loader, experiment.parallel.spatial)
    whole = replicated(mesh)
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), like)
    if not run.checkpoints.is_dir():
        raise FileNotFoundError(f"{run.checkpoints}: expected checkpoints, found none; train the run first")
    checkpoints = Checkpoints(run.checkpoints, write=False)
    try:
        return detector, checkpoints.restore(which, like).state, mesh
    finally:
        checkpoints.close()
