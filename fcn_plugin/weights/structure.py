"""Check what a checkpoint contains, and the types, as soon as it is read.

A file may have numbers for names, a string for a palette, a list for an optimizer. Without these
checks each would end in a traceback somewhere.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from fcn_plugin.errors import UserError, printable, quoted
from fcn_plugin.weights.sources import ORDERS

Check = Callable[[Any], bool]

NO_STATE_DICT = "holds no state_dict; save model.state_dict() into it"
ANOTHER = "use another file, or correct what was saved"
EXTRA_STATE = "_extra_state"  # end of a module's entry that need not be a tensor


def _is(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds)


_anything, _text, _flag = _is(object), _is(str), _is(bool, np.bool_)


def _number(value: Any) -> bool:
    return not _flag(value) and isinstance(value, Real) and isfinite(value)


def _whole(value: Any) -> bool:
    return not _flag(value) and isinstance(value, Integral) and int(value) >= 0


def _scalar(value: Any) -> bool:
    """A number (NaN is allowed), or a tensor or array with one element."""
    return isinstance(value, Real) or getattr(value, "shape", None) in ((), (1,))


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _table(of: Check = _anything, by: Check = _text) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(map(by, value)) and all(map(of, value.values()))
    )


def _filled(check: Check) -> Check:
    return lambda value: check(value) and bool(value)


def _palette(value: Any) -> bool:
    colours = value.tolist() if isinstance(value, np.ndarray) else value
    return _each(_each(_number))(colours) and all(
        len(colour) == 3 and all(0 <= part <= 255 for part in colour) for colour in colours
    )


def _input(value: Any) -> bool:
    """A valid ``sources.Input``; a table with other keys is not ours and passes."""
    if not isinstance(value, dict) or set(value) != {"order", "mean", "std"}:
        return isinstance(value, dict)
    numbers = all(_filled(_each(_number))(value[key]) for key in ("mean", "std"))
    return numbers and value["order"] in ORDERS and all(std > 0 for std in value["std"])


def _version(module: Any) -> bool:
    return _table()(module) and (module.get("version") is None or _whole(module["version"]))


# Key in a checkpoint -> the expected value, in words and as a check.
Rules = Mapping[str, tuple[str, Check]]
TABLE, TEXT, WHOLE = ("a table", _table()), ("a text", _text), ("a whole number", _whole)
# What a data set says of a labeling, the main one or a further task's.
LABELING: Rules = {
    "classes": ("names", _each(_text)),
    "palette": ("colours of three numbers in 0-255", _palette),
    "reduce_zero_label": ("True or False", _flag),
    "label_map": ("a table of numbers", _table(_number, by=_number)),
}


def _labeling(value: Any) -> bool:
    return _table()(value) and all(
        value.get(key) is None or check(value[key]) for key, (_, check) in LABELING.items()
    )


CONTENT: Rules = {
    "meta": TABLE,
    "meta.net": TEXT,
    "meta.padding": TEXT,
    "meta.made_for": TEXT,
    "meta.epoch": WHOLE,
    "meta.iter": WHOLE,
    "meta.seed": WHOLE,
    "meta.input": ("order, mean and std of the channels", _input),
    "meta.dataset_meta": TABLE,
    **{f"meta.dataset_meta.{key}": rule for key, rule in LABELING.items()},
    "meta.dataset_meta.tasks": ("a table of tasks, each with its classes", _table(_labeling)),
}
# Entries that resuming needs; RUN_OPTIONAL: entries that may be absent.
RUN: Rules = {
    "meta.epoch": WHOLE,
    "meta.iter": WHOLE,
    "message_hub": TABLE,
    "message_hub.log_scalars": ("a table of logs", _table(_is(HistoryBuffer))),
    "message_hub.runtime_info": TABLE,
    "message_hub.resumed_keys": ("a table of True and False", _table(_flag)),
    "optimizer": ("a table that is not empty", _filled(_table())),
}
RUN_OPTIONAL: Rules = {
    "param_schedulers": (
        "a table, or a list of tables",
        lambda value: _table()(value) or _each(_table())(value),
    ),
    **{
        f"message_hub.runtime_info.{key}": WHOLE
        for key in ("iter", "epoch", "max_iters", "max_epochs", "scored", "skipped_steps")
    },
    "message_hub.runtime_info.best_score": ("a number", _scalar),
    "message_hub.runtime_info.early_stopping": (
        "the numbers waited and best",
        lambda value: _table(_number)(value) and {"waited", "best"} <= set(value),
    ),
    "message_hub.runtime_info.best_ckpt": TEXT,
    "message_hub.runtime_info.last_ckpt": TEXT,
    "message_hub.runtime_info.keep_ckpt_ids": ("whole numbers", _each(_whole)),
}
OPTIMIZER: Rules = {
    # For each parameter, by its number.
    "state": ("a table of tables", _table(_table(), by=_anything)),
    "param_groups": ("a list of tables", _each(_table())),
}
VERSIONS: Rules = {"_metadata": ("versions of modules", _table(_version))}


def check_content(path: Path, content: Any) -> None:
    """Refuse a file whose state_dict or meta data have wrong types.

    Raises:
        UserError: in one line, with the file and what is wrong in it.
    """
    if not isinstance(content, dict):
        return
    state = content.get("state_dict", {})
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise UserError(f"{path}: {NO_STATE_DICT}")
    for name, value in state.items():
        if not isinstance(value, Tensor) and not name.endswith(EXTRA_STATE):
            raise UserError(
                f"{path}: {quoted(name)} is {type(value).__name__}, expected a tensor; {ANOTHER}"
            )
    _refuse(path, getattr(state, "__dict__", {}), VERSIONS, inside="state_dict.")
    check_names(path, (*state, *content))
    if "state_dict" in content:
        _refuse(path, content, CONTENT)


def check_names(path: Path, names: Iterable[Any]) -> None:
    """Refuse names with control characters: mmengine prints them to the terminal unescaped."""
    for name in names:
        if isinstance(name, str) and printable(name) != name:
            raise UserError(f"{path}: has control characters in the name {quoted(name)}; {ANOTHER}")


def check_run(path: Path, content: dict[str, Any]) -> None:
    """Refuse a checkpoint that cannot be resumed from; call ``check_content`` first.

    Raises:
        UserError: in one line, with the file and what is wrong in it.
    """
    _refuse(path, content, RUN, needed=True)
    _refuse(path, content, RUN_OPTIONAL)
    hub, optimizer = content["message_hub"], content["optimizer"]
    check_names(path, (*hub["log_scalars"], *hub["runtime_info"], *hub["resumed_keys"]))
    # Several optimizers are saved as a table by name.
    optimizers = {"": optimizer} if "param_groups" in optimizer else optimizer
    for name, state in optimizers.items():
        inside = f"optimizer.{name}." if name else "optimizer."
        _refuse(path, state, OPTIMIZER, needed=True, inside=inside)


def check_tensors(path: Path | str, tensors: Mapping[str, Tensor], finite: bool = True) -> None:
    """Refuse tensors that cannot fill a network: sparse, quantized, complex or without data.

    Args:
        finite: also refuse NaN and inf; each tensor is read once, and none is copied.

    Raises:
        UserError: in one line, with the file and the tensor.
    """
    for name, tensor in tensors.items():
        # Attention masks contain -inf on purpose.
        judged = finite and not name.endswith("mask")
        if fault := _fault(tensor) or (judged and not is_finite(tensor) and "NaN or inf in it"):
            raise UserError(f"{path}: {quoted(name)} has {fault}; {ANOTHER}")


def _fault(tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return "a shape but no numbers (device meta)"
    if tensor.is_quantized:
        return "quantized numbers"
    if tensor.layout is not torch.strided or tensor.is_nested:
        return f"the layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.is_complex():
        return "complex numbers"
    if tensor.numel() and not tensor.untyped_storage().nbytes():
        return "no memory"
    return None


def is_finite(tensor: Tensor) -> bool:
    """Whether ``tensor`` has neither NaN nor inf; it is read once, and not copied."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    with torch.no_grad():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            # An expanded tensor: read its storage, where each number is once.
            tensor = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
                tensor.untyped_storage()
            )
        if tensor.element_size() == 1:  # float8 has no aminmax
            tensor = tensor.float()
        # Only of the extremes: isfinite of the tensor would make another one as large.
        return all(extreme.isfinite() for extreme in tensor.aminmax())


def _refuse(path: Path, content: Any, rules: Rules, needed: bool = False, inside: str = "") -> None:
    """Check ``content`` by ``rules``; absent entries and None pass unless ``needed``."""
    for dotted, (words, check) in rules.items():
        value = content
        for key in dotted.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if check(value) or (value is None and not needed):
            continue
        actual = "None" if value is None else f"{type(value).__name__} {quoted(repr(value), 40)}"
        raise UserError(f"{path}: its {inside}{dotted} is {actual}, expected {words}; {ANOTHER}")
