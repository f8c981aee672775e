"""What all tests share: the package registered, few threads, and a reference of its own."""

import pytest
import torch

import fcn_plugin  # noqa: F401  # registration, and the host made importable


@pytest.fixture(autouse=True, scope="session")
def two_threads():
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
