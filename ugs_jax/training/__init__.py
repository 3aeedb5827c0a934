"""Training: an experiment as a value, one pure step, the loop around it."""

from ugs_jax.training.calibrate import measure_calibration
from ugs_jax.training.checkpoint import Checkpoints
from ugs_jax.training.config import Ema, Experiment, Network, detector_with
from ugs_jax.training.evaluate import evaluate, jit_detect
from ugs_jax.training.fitting import Fitted, anchors_for, build_detector, fit_to, fitted_detector
from ugs_jax.training.inference import load_for_inference
from ugs_jax.training.landscape import Landscape, Slice, landscape_of, measure_landscape
from ugs_jax.training.loop import Result, train
from ugs_jax.training.non_finite import NonFiniteError
from ugs_jax.training.objective import Gains, objective
from ugs_jax.training.optimizer import SGD, AdamW, Schedule, Stabilize
from ugs_jax.training.planning.plan import Plan, plan_training
from ugs_jax.training.predict import image_detector, predict_files
from ugs_jax.training.preemption import RESUMABLE, PreemptedError
from ugs_jax.training.processes import join_processes
from ugs_jax.training.remote.store import RemoteError
from ugs_jax.training.remote.upload import FencedError
from ugs_jax.training.run_folder import RunFolder, read_experiment
from ugs_jax.training.serialize import from_json, to_json
from ugs_jax.training.sharding import Parallel, batch_sharding, device_mesh, state_sharding
from ugs_jax.training.state import TrainState, create_state
from ugs_jax.training.step import jit_step, make_step

__all__ = [
    "RESUMABLE",
    "SGD",
    "AdamW",
    "Checkpoints",
    "Ema",
    "Experiment",
    "FencedError",
    "Fitted",
    "Gains",
    "Landscape",
    "Network",
    "NonFiniteError",
    "Parallel",
    "Plan",
    "PreemptedError",
    "RemoteError",
    "Result",
    "RunFolder",
    "Schedule",
    "Slice",
    "Stabilize",
    "TrainState",
    "anchors_for",
    "batch_sharding",
    "build_detector",
    "create_state",
    "detector_with",
    "device_mesh",
    "evaluate",
    "fit_to",
    "fitted_detector",
    "from_json",
    "image_detector",
    "jit_detect",
    "jit_step",
    "join_processes",
    "landscape_of",
    "load_for_inference",
    "make_step",
    "measure_calibration",
    "measure_landscape",
    "objective",
    "plan_training",
    "predict_files",
    "read_experiment",
    "state_sharding",
    "to_json",
    "train",
]
