"""`python -m MODULE …` with the toy detector, which compiles in seconds: python with_toy.py -m MODULE …"""

import runpy
import sys

from tests.training.toy import toy_detector_with
from ugs_jax import experiment
from ugs_jax.experiment import fitting

if __name__ == "__main__":
    fitting.detector_with = experiment.detector_with = toy_detector_with
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
