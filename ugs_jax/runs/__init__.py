"""Training run on disk and in memory: folder, checkpoints, log, processes, and loading of a finished run."""

from ugs_jax.exit_status import RESUMABLE
from ugs_jax.runs.checkpoint import Checkpoints
from ugs_jax.runs.class_names import with_classes
from ugs_jax.runs.engines import image_detector
from ugs_jax.runs.loaded import LoadedDetector, load
from ugs_jax.runs.loading import load_for_inference
from ugs_jax.runs.prediction import predict_files
from ugs_jax.runs.preemption import PreemptedError
from ugs_jax.runs.processes import join_processes
from ugs_jax.runs.remote.store import RemoteError
from ugs_jax.runs.remote.upload import FencedError
from ugs_jax.runs.run_folder import RunFolder, read_experiment
from ugs_jax.runs.sharding import batch_sharding, device_mesh, state_sharding
from ugs_jax.runs.state import TrainState, create_state

__all__ = [
    "RESUMABLE",
    "Checkpoints",
    "FencedError",
    "LoadedDetector",
    "PreemptedError",
    "RemoteError",
    "RunFolder",
    "TrainState",
    "batch_sharding",
    "create_state",
    "device_mesh",
    "image_detector",
    "join_processes",
    "load",
    "load_for_inference",
    "predict_files",
    "read_experiment",
    "state_sharding",
    "with_classes",
]
