"""What every test runs under: the CPU, checked shapes, a data set cache of its own, reproducible examples."""

import os
from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before anything imports JAX

# Annotated shapes and types are checked at every call. Here and not by jaxtyping's pytest option, because the workers
# of pytest-xdist don't see the options of pyproject.toml early enough. An int is a float, as it is for type checkers.
jaxtyping.install_import_hook(
    ["ugs_jax", "data_pipeline"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

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
