"""How many inputs each property is tried on: a few by default, twenty times as many by -m slow.

The same inputs at each run. A test that takes longer or less long than others asks for its
``share`` of the number.
"""

import pytest
from hypothesis import HealthCheck, settings

QUICK, LONG = 50, 1000


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile(
        "properties",
        max_examples=LONG if _is_long(config) else QUICK,
        derandomize=True,
        database=None,
        deadline=None,
        # Files are written over in one folder, and a slow machine is no fault.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("properties")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every property is among the slow tests too, where it is tried on more inputs."""
    if _is_long(item.config):
        item.add_marker("slow")


def _is_long(config: pytest.Config) -> bool:
    return config.getoption("markexpr") == "slow"
