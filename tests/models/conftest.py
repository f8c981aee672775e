import pytest
from models.small import CLASSES

from fcn_plugin.models import coarse


@pytest.fixture
def small_blocks(monkeypatch):
    """Several blocks on either axis, even of small images."""
    monkeypatch.setattr(coarse, "ELEMENTS", 32 * 16 * CLASSES)
    monkeypatch.setattr(coarse, "HEIGHT", 16)
