"""Fixtures of all tests: registered modules, mmseg's scope, one thread, a fixed seed."""

import logging

import pytest
import torch

import fcn_plugin  # noqa: F401  # registers our modules and makes mmseg importable


@pytest.fixture(autouse=True, scope="session")
def _environment():
    from mmengine.registry import init_default_scope

    # Two threads make tiny networks several times slower if other work shares the cores.
    torch.set_num_threads(1)
    init_default_scope("mmseg")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _no_log_of_earlier_runs():
    """Close the log files of a module's runs, since mmengine keeps their logger."""
    yield
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    for handler in [h for h in logger.handlers if isinstance(h, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()
