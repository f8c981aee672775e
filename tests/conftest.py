"""What all tests share: the package registered, the host's scope, one thread, a fixed seed."""

import logging

import pytest
import torch

import fcn_plugin  # noqa: F401  # registration, and the host made importable


@pytest.fixture(autouse=True, scope="session")
def _environment():
    from mmengine.registry import init_default_scope

    # Two make tiny networks several times slower where other work shares the cores.
    torch.set_num_threads(1)
    init_default_scope("mmseg")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _no_log_of_earlier_runs():
    """The logger of a run in this process, which mmengine keeps, lets go of its file."""
    yield
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    for handler in [each for each in logger.handlers if isinstance(each, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
