"""What a run prints: what one reads there; the rest is in the log file."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.runner import Runner

from fcn_plugin.text import printable

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


def _brief(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(LONG)


def _obeyed_by_no_terminal(record: logging.LogRecord) -> bool:
    """Names from files may be anywhere in what is logged; its own line ends and tabs stay."""
    record.msg, record.args = printable(record.getMessage(), keep="\n\t"), ()
    return True
