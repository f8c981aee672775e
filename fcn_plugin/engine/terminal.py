"""What a run prints: what one reads there; the rest is in the log file."""

import logging
from contextlib import suppress
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from fcn_plugin.engine.resumed_settings import first_fault, settings
from fcn_plugin.errors import UserError, printable, quoted

WHATEVER = (  # but for what a user stops a run by, and the lack of memory
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
LONG = ("Config:\n", "Hooks will be executed in the following order:\n")


class BriefRunner(Runner):
    """The host's, but for what it prints: config and list of hooks, hundreds of lines, only go
    into the log file, which it names."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(_obeyed_by_no_terminal)
            if isinstance(handler, logging.FileHandler):
                logger.info("Log, with the config and all hooks: %s", handler.baseFilename)
            else:
                handler.addFilter(_brief)
        return logger

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """The host's.

        Raises:
            UserError: the checkpoint is not of such a run, or not of the types that it should be.
        """
        before = settings(self)
        try:
            super().resume(filename, *args, **kwargs)
        except (UserError, torch.OutOfMemoryError):
            raise
        # What the host and PyTorch raise on arbitrary content is not documented.
        except WHATEVER as error:
            raise _not_of_this_run(filename, quoted(error)) from error
        if fault := first_fault(self, before):
            raise _not_of_this_run(filename, fault)


def _not_of_this_run(file: str, fault: str) -> UserError:
    return UserError(
        f"{file}: a run of this config cannot go on from it ({fault}); give the config that it was "
        "trained with, or start from its weights: --cfg-options load_from=FILE"
    )


def _brief(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(LONG)


def _obeyed_by_no_terminal(record: logging.LogRecord) -> bool:
    """Names from files may be anywhere in what is logged; its own line ends and tabs stay."""
    with suppress(Exception):  # a call with wrong arguments, which logging tells of
        record.msg, record.args = printable(record.getMessage(), keep="\n\t"), ()
    return True
