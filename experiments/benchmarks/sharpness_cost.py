"""Time that logging curvature and gradient variance by box size adds to a training run with UGS.

    python -m experiments.benchmarks.sharpness_cost

A program that measures at every step and a program that never measures run in turns, as in `step_cost`, which has the
same settings. The last line is JSON. `measured_ratio` is the ratio of their median times. `share` is the added time if
one step in `log_every` measures, (measured_ratio − 1) / log_every, with its 95 % interval.
"""

import json
import os

import jax
import tyro
from rich.console import Console

from experiments.benchmarks.step_cost import Settings, compile_objective, make_batches
from ugs_jax.analysis.step_cost import interleave, ratio_of_medians
from ugs_jax.experiment import Experiment
from ugs_jax.objectives import UGS

_NEVER = 2**31 - 1
_LOG_EVERY = int(Experiment.__dataclass_fields__["log_every"].default)


def main(settings: Settings) -> None:
    """Measure, and print one line of JSON."""
    settings = settings.resolved()
    with Console(stderr=True).status("compiling, then timing"):
        dataset, batches = make_batches(settings)
        always, never = (compile_objective(UGS(), dataset, settings, batches[0], every) for every in (1, _NEVER))
        measured, plain = interleave((always, never), batches, settings.repeats, settings.warmup)
    ratio, interval = ratio_of_medians(measured.wall, plain.wall)
    processor, processor_interval = ratio_of_medians(measured.processor, plain.processor)
    result = {
        "benchmark": "sharpness_cost",
        "share": round((ratio - 1) / _LOG_EVERY, 5),
        "share_interval": [round((end - 1) / _LOG_EVERY, 5) for end in interval],
        "processor_share": round((processor - 1) / _LOG_EVERY, 5),
        "processor_share_interval": [round((end - 1) / _LOG_EVERY, 5) for end in processor_interval],
        "measured_ratio": round(ratio, 4),
        "log_every": _LOG_EVERY,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
