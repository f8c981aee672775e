"""The number of inputs of one property."""

from collections.abc import Callable

from hypothesis import settings


def share(part: float) -> Callable:
    """Decorator: ``part`` of the inputs that a property is tried on (``conftest.py``)."""
    return settings(max_examples=max(1, round(part * settings.default.max_examples)))
