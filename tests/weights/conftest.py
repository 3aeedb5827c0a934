"""Settings of all tests of weights."""

import pytest


@pytest.fixture(autouse=True)
def _in_use(unchecked):
    """Annotations are not checked."""
