"""What every test runs under: the CPU, a data set cache of its own, reproducible examples.

Shapes and types of `ugs_jax` and `data_pipeline` are checked at run time: see `--jaxtyping-packages` in pyproject.toml.
"""

import os
from collections.abc import Iterator

import hypothesis
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before anything imports JAX

hypothesis.settings.register_profile("dev", deadline=None, max_examples=50)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50, print_blob=True)
hypothesis.settings.load_profile("ci" if "CI" in os.environ else "dev")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Data sets are built in a folder that this session (this worker, under xdist) has to itself."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("cache"))
        patch.setenv("UGS_CACHE", folder)
        yield folder
