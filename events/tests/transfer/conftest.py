import pytest

from events.transfer import importing


@pytest.fixture
def short_steps(monkeypatch):
    """An import takes three lines at a time."""
    monkeypatch.setattr(importing, "_STEP_LINES", {"postgresql": 3, "sqlite": 3})
