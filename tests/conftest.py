"""Settings of all tests: CPU, shapes checked at run time, a separate data set cache, reproducible examples."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import hypothesis
import jaxtyping
import pytest

from tests.flags import QUICK_FLAGS

# Before anything imports JAX. Programs run once or twice, so that most of their time would be spent on optimising them;
# with XLA_FLAGS set, to nothing for example, they are compiled as for users.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", QUICK_FLAGS)

# Of processes that tests start; in this one pytest makes every warning an error. PyTorch warns of what it does itself.
os.environ.setdefault(
    "PYTHONWARNINGS", "error::DeprecationWarning,ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)

# Annotated shapes and types are checked at every call. Here and not by jaxtyping's pytest option, because the workers
# of pytest-xdist don't see the options of pyproject.toml early enough. An int is a float, as it is for type checkers.
jaxtyping.install_import_hook(
    ["ugs_jax", "data_pipeline"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

# One test's program is another's: what is compiled by this session, its workers and their subprocesses is shared, the
# quickest too. Only pytest-xdist's controller, or the one process without it, finds no such folder, makes it and
# removes it.
_COMPILED = "JAX_COMPILATION_CACHE_DIR"
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_configure(config: pytest.Config) -> None:
    """Sets up the folder of compiled programs."""
    if _COMPILED not in os.environ:
        os.environ[_COMPILED] = folder = tempfile.mkdtemp(prefix="ugs-compiled-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


_LONGEST = (
    "tests/training/",
    "tests/benchmarks/",
    "tests/runs/",
    "tests/weights/",
    "tests/detectors/",
    "tests/commands/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes go first, so that no worker of pytest-xdist is left with one at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith(_LONGEST))


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


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations are not checked, as in use. Much quicker for networks and for pickles of many opcodes; any value
    gets through to the errors of the library; and jaxtyping knows no symbolic sizes.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
