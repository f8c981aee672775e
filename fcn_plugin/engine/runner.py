"""A runner with a short log, a shorter output on the terminal, and a check of what it resumes from.

mmengine and PyTorch accept any settings of optimizers and schedules from a checkpoint, even a
learning rate that is a string or a schedule whose ``step`` is a number. These would end in a
traceback at the first iteration.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from numbers import Number
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from fcn_plugin.errors import UserError, printable, quoted, without_secrets
from fcn_plugin.system.locks import claim

# Records of mmengine that hide the warnings between them: the rate of each single parameter, which
# follows from the config, and calls in mmengine's own code of what it will take away.
IDLE_RECORDS = (
    "paramwise_options -- ",
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
)
LONG_RECORDS = ("Config:\n", "Hooks will be executed in the following order:\n")
# Entries of an optimizer's state that have the shape of the parameter.
MOMENTA = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")
# Two values are alike if both belong to the same entry here, or else if their types are equal.
KINDS: tuple[Any, ...] = (Number | Tensor | np.generic, str, list | tuple, dict, Callable)

CLAIM_PATIENCE = 5  # seconds to wait for a killed run to end
Settings = dict[str, dict[str, Any]]


def bare_model(runner: Runner) -> Any:
    """The model without its wrappers for several processes and for test-time augmentation."""
    model: Any = runner.model
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def optim_wrappers(runner: Runner) -> list[OptimWrapper]:
    """The wrapper of each optimizer; none before they are built."""
    wrapper = runner.optim_wrapper
    wrappers = wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
    return [each for each in wrappers if isinstance(each, OptimWrapper)]


class BriefRunner(Runner):
    """mmengine's runner; the config and the list of hooks go only into the log file.

    ``IDLE_RECORDS`` go nowhere.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            handler.addFilter(lambda record: not str(record.msg).startswith(IDLE_RECORDS))
            handler.addFilter(_make_printable)
            if isinstance(handler, logging.FileHandler):
                logger.info("Log, with the config and all hooks: %s", handler.baseFilename)
            else:
                handler.addFilter(lambda record: not str(record.msg).startswith(LONG_RECORDS))
        return logger

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume as mmengine does.

        Raises:
            UserError: the checkpoint belongs to another run, or has settings of other types.
        """
        before = _settings(self)
        try:
            super().resume(filename, *args, **kwargs)
            fault = _first_fault(self, before)
        except (UserError, OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what mmengine and PyTorch raise is not documented
            fault = quoted(error)
        if fault:
            raise UserError(
                f"{filename}: a run of this config cannot go on from it ({fault}); give the config "
                "that it was trained with, or start from its weights: --cfg-options load_from=FILE"
            )


class TrainingRunner(BriefRunner):
    """The same, but only one at a time in a work dir."""

    def dump_config(self) -> None:
        """Lock the work dir, and write the config into it.

        Raises:
            UserError: another run is still at work there, whose config must stay.
        """
        if self.rank == 0:
            claim(Path(self.work_dir), CLAIM_PATIENCE)
        super().dump_config()


def _make_printable(record: logging.LogRecord) -> bool:
    """Escape what a terminal cannot show, but for line ends and tabs; addresses lose secrets."""
    with suppress(Exception):  # wrong arguments, which logging itself reports
        text = without_secrets(record.getMessage())
        record.msg, record.args = printable(text, keep="\n\t"), ()
    return True


def _settings(runner: Runner) -> Settings:
    """The settings of each parameter group and each schedule, by their name in messages."""
    groups = [g for wrapper in optim_wrappers(runner) for g in wrapper.optimizer.param_groups]
    settings = {f"optimizer.param_groups.{i}": dict(group) for i, group in enumerate(groups)}
    for i, scheduler in enumerate(_schedulers(runner)):
        settings[f"param_schedulers.{i}"] = dict(vars(scheduler))
    return settings


def _schedulers(runner: Runner) -> list[Any]:
    """The schedulers that are already built."""
    schedulers: Any = runner.param_schedulers or []
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    return [each for group in groups for each in group if not isinstance(each, dict)]


def _first_fault(runner: Runner, before: Settings) -> str | None:
    """The first setting or state that cannot be this run's, in words; None if all can."""
    for name, after in _settings(runner).items():
        for key, value in before.get(name, {}).items():
            if key not in after:
                return f"{name}.{key} is missing"
            if not _alike(value, after[key]):
                return f"{name}.{key} is {type(after[key]).__name__}, not {type(value).__name__}"
    for i, scheduler in enumerate(_schedulers(runner)):
        for key in vars(scheduler).keys() - before.get(f"param_schedulers.{i}", {}).keys():
            if callable(getattr(type(scheduler), key, None)):
                return f"param_schedulers.{i}.{key} would hide a method of the schedule"
    for wrapper in optim_wrappers(runner):
        for parameter, state in wrapper.optimizer.state.items():
            if not isinstance(parameter, Tensor):
                return "optimizer.state has parameters that the model does not have"
            # ZeroRedundancyOptimizer has no state of parameters that other processes keep.
            for key, value in (state or {}).items():
                if value is None:
                    continue
                if not isinstance(value, Number | Tensor | list | tuple):
                    return f"optimizer.state has a {key} that is {type(value).__name__}"
                if key in MOMENTA and getattr(value, "shape", None) != parameter.shape:
                    return f"optimizer.state has a {key} of another shape than its parameter"
    return None


def _kind(value: Any) -> Any:
    return next((kind for kind in KINDS if isinstance(value, kind)), type(value))


def _alike(before: Any, after: Any) -> bool:
    if before is None:
        return after is None or _kind(after) in (_kind(0), str)
    if after is None:  # an unset switch, such as foreach=None
        return isinstance(before, bool)
    if _kind(before) != _kind(after):
        return False
    if isinstance(before, list | tuple) and before:
        return all(_alike(before[0], item) for item in after)
    return True
