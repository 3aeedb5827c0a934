"""Loading of a trained detector from its run folder, without its data set."""

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
    """Return detector, training state and mesh of a run.

    The scores of the run were measured with the averages `ema_params` and `ema_stats` of the state. The mesh has as
    many devices as the batches of the run can be split over. Anchors, grids and classes come from `config.json` of the
    run.

    Args:
      folder: Run folder.
      experiment: Config of the run, if it was read before.
      which: Checkpoint, `best` or `last`.

    Raises:
      FileNotFoundError: The run or the checkpoint does not exist.
      ValueError: This version cannot read the config.
    """
    run = RunFolder(folder)
    experiment = experiment or read_experiment(folder)
    detector = fitted_detector(experiment, run.read_fitted(), len(run.read_classes()))
    # The schedule has no state, so any schedule gives the right shapes.
    optimizer = experiment.optimizer.build(lambda _: 0.0)
    like = jax.eval_shape(lambda: create_state(detector, optimizer, 0, experiment.freeze))
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
