"""Contents of the pictures that a test draws."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def figures(monkeypatch):
    """Figures that are saved, in order."""
    saved, save = [], Figure.savefig

    def note(figure, *arguments, **options):
        saved.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", note)
    return saved
