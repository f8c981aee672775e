"""The settings of optimizers and schedules before and after a checkpoint's are put in their place.

The host and PyTorch take whatever a checkpoint has: a learning rate that is a text, a schedule
whose ``step`` is a number. Each would end in a traceback at the first iteration.
"""

from collections.abc import Callable, Iterator
from numbers import Number
from typing import Any

import numpy as np
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

# Of an optimizer's state: as large as the parameter.
MOMENTA = ("momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq")


def settings(runner: Runner) -> dict[str, dict[str, Any]]:
    """Of each parameter group and each schedule, by what they are called in messages."""
    found: dict[str, dict[str, Any]] = {}
    for optimizer in _optimizers(runner):
        for group in optimizer.param_groups:
            found[f"optimizer.param_groups.{len(found)}"] = dict(group)
    for i, scheduler in enumerate(_schedulers(runner)):
        found[f"param_schedulers.{i}"] = dict(vars(scheduler))
    return found


def first_fault(runner: Runner, before: dict[str, dict[str, Any]]) -> str | None:
    """What is of another kind than it was ``before``, and so cannot be of this run."""
    for name, after in settings(runner).items():
        for key, value in before.get(name, {}).items():
            if key not in after:
                return f"{name}.{key} is missing"
            if not _alike(value, after[key]):
                return f"{name}.{key} is {type(after[key]).__name__}, not {type(value).__name__}"
    for i, scheduler in enumerate(_schedulers(runner)):
        for key in vars(scheduler).keys() - before.get(f"param_schedulers.{i}", {}).keys():
            if callable(getattr(type(scheduler), key, None)):
                return f"param_schedulers.{i}.{key} would hide what the schedule does"
    for optimizer in _optimizers(runner):
        for parameter, state in optimizer.state.items():
            if not isinstance(parameter, Tensor):
                return "optimizer.state is of parameters that the model has not"
            # ZeroRedundancyOptimizer has none of what other processes keep.
            for key, value in (state or {}).items():
                if value is not None and not isinstance(value, Number | Tensor | list | tuple):
                    return f"optimizer.state has a {key} that is {type(value).__name__}"
                shape = getattr(value, "shape", None)
                if key in MOMENTA and value is not None and shape != parameter.shape:
                    return f"optimizer.state has a {key} of another shape than its parameter"
    return None


def _optimizers(runner: Runner) -> Iterator[Any]:
    wrapper: Any = runner.optim_wrapper
    each = wrapper.values() if hasattr(wrapper, "optim_wrappers") else [wrapper]
    for one in each:
        if isinstance(one, OptimWrapper):
            yield one.optimizer


def _schedulers(runner: Runner) -> list[Any]:
    """Those that are built already."""
    schedulers: Any = runner.param_schedulers or []
    groups = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    return [each for group in groups for each in group if not isinstance(each, dict)]


def _kind(value: Any) -> Any:
    """Numbers are alike, be they tensors or not, and so are lists, tables and functions."""
    kinds: tuple[Any, ...] = (Number | Tensor | np.generic, str, list | tuple, dict, Callable)
    return next((kind for kind in kinds if isinstance(value, kind)), type(value))


def _alike(before: Any, after: Any) -> bool:
    if before is None:
        return after is None or _kind(after) in (_kind(0), str)
    if after is None:  # a switch that is left open
        return isinstance(before, bool)
    if _kind(before) != _kind(after):
        return False
    if isinstance(before, list | tuple) and before:
        return all(_alike(before[0], item) for item in after)
    return True
