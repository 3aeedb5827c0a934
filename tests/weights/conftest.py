"""Settings of all tests of weights."""

import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Annotations are not checked, as in use. Much quicker for networks and for pickles of many opcodes; any value
    gets through to the errors of the library; and jaxtyping knows no symbolic sizes.
    """
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
