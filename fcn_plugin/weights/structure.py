"""What a checkpoint is made of, checked as soon as it is read: its users need not ask again.

A file says what it likes: names that are numbers, a palette that is a text, an optimizer that is a
list. Each of these would end in a traceback somewhere, and be read by nobody.
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

from fcn_plugin.errors import UserError, printable
from fcn_plugin.weights.quoting import quoted

Check = Callable[[Any], bool]

NO_STATE_DICT = "holds no state_dict; save model.state_dict() into it"
ANOTHER = "take another file, or mend it where it was saved"
EXTRA_STATE = "_extra_state"  # what PyTorch's modules keep beside tensors


def is_number(value: Any) -> bool:
    return not _flag(value) and isinstance(value, Real) and isfinite(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return not _flag(value) and isinstance(value, Integral) and int(value) >= 0


def _flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _scalar(value: Any) -> bool:
    """A number, NaN maybe, or a tensor or array of one."""
    return isinstance(value, Real) or getattr(value, "shape", None) in ((), (1,))


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, list | tuple) and all(map(check, value))


def _table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _tables(value: Any) -> bool:
    """Of an optimizer's state: a table for each parameter, by its number."""
    return isinstance(value, dict) and all(map(_table, value.values()))


def _colour(value: Any) -> bool:
    return _each(is_number)(value) and len(value) == 3 and all(0 <= v <= 255 for v in value)


def _palette(value: Any) -> bool:
    return _each(_colour)(value.tolist() if isinstance(value, np.ndarray) else value)


def _label_map(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_number, (*value, *value.values())))


def _input(value: Any) -> bool:
    """Ours, see ``sources.Input``; tables with other keys are somebody else's."""
    if not isinstance(value, dict) or set(value) != {"order", "mean", "std"}:
        return isinstance(value, dict)
    numbers = all(_each(is_number)(value[key]) and value[key] for key in ("mean", "std"))
    return numbers and value["order"] in ("RGB", "BGR") and all(std > 0 for std in value["std"])


def _logs(value: Any) -> bool:
    return _table(value) and all(isinstance(log, HistoryBuffer) for log in value.values())


def _switches(value: Any) -> bool:
    return _table(value) and all(map(_flag, value.values()))


def _versions(value: Any) -> bool:
    """Of modules, by their names."""
    tables = _table(value) and all(map(_table, value.values()))
    return tables and all(
        version is None or _whole(version)
        for version in (module.get("version") for module in value.values())
    )


# For each key what is expected, in words and as a check; a key may be absent, or None.
Rules = Mapping[str, tuple[str, Check]]
STATE_DICT: Rules = {"_metadata": ("versions of modules", _versions)}
META: Rules = {
    "net": ("a text", _text),
    "padding": ("a text", _text),
    "made_for": ("a text", _text),
    "epoch": ("a whole number", _whole),
    "iter": ("a whole number", _whole),
    "seed": ("a whole number", _whole),
    "input": ("order, mean and std of the channels", _input),
    "dataset_meta": ("a table", _table),
}
DATASET_META: Rules = {
    "classes": ("names", _each(_text)),
    "palette": ("colours of three numbers in 0-255", _palette),
    "reduce_zero_label": ("True or False", _flag),
    "label_map": ("a table of numbers", _label_map),
}
RUN: Rules = {
    "message_hub": ("a table", _table),
    "optimizer": ("a table that is not empty", lambda value: _table(value) and bool(value)),
    "param_schedulers": ("a table, or a list of tables", lambda v: _table(v) or _each(_table)(v)),
}
HUB: Rules = {
    "log_scalars": ("a table of logs", _logs),
    "runtime_info": ("a table", _table),
    "resumed_keys": ("a table of True and False", _switches),
}
RUNTIME_INFO: Rules = {
    **dict.fromkeys(
        ("iter", "epoch", "max_iters", "max_epochs", "scored"), ("a whole number", _whole)
    ),
    "best_score": ("a number", _scalar),
    "best_ckpt": ("a text", _text),
    "last_ckpt": ("a text", _text),
    "keep_ckpt_ids": ("whole numbers", _each(_whole)),
}
OPTIMIZER: Rules = {
    "state": ("a table of tables", _tables),
    "param_groups": ("a list of tables", _each(_table)),
}


def check_content(path: Path, content: Any) -> None:
    """Refuse a file whose state_dict or meta data are no such things.

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
                f"{path}: {quoted(name)} is no tensor but {type(value).__name__}; {ANOTHER}"
            )
    _refuse(path, "state_dict.", vars(state) if hasattr(state, "__dict__") else {}, STATE_DICT)
    _refuse_unprintable(path, (*state, *content))
    if "state_dict" in content:
        _refuse(path, "", content, {"meta": ("a table", _table)})
        meta = content.get("meta") or {}
        _refuse(path, "meta.", meta, META)
        _refuse(path, "meta.dataset_meta.", meta.get("dataset_meta") or {}, DATASET_META)


def _refuse_unprintable(path: Path, names: Iterable[Any]) -> None:
    """The host prints names as they are."""
    for name in names:
        if isinstance(name, str) and printable(name) != name:
            raise UserError(f"{path}: has control characters in the name {quoted(name)}; {ANOTHER}")


def check_run(path: Path, content: dict[str, Any]) -> None:
    """Refuse what a run cannot go on from; ``check_content`` has passed it.

    Raises:
        UserError: in one line, with the file and what is wrong in it.
    """
    _refuse(path, "meta.", content["meta"] or {}, META, needed=("epoch", "iter"))
    _refuse(path, "", content, RUN, needed=("message_hub", "optimizer"))
    hub, optimizer = content["message_hub"], content["optimizer"]
    _refuse(path, "message_hub.", hub, HUB, needed=tuple(HUB))
    _refuse_unprintable(path, (name for key in HUB for name in hub[key]))
    _refuse(path, "message_hub.runtime_info.", hub["runtime_info"], RUNTIME_INFO)
    # Several optimizers are a table of theirs.
    several = {"": optimizer} if "param_groups" in optimizer else optimizer
    for name, one in several.items():
        where = f"optimizer.{name}." if name else "optimizer."
        _refuse(path, "", {where[:-1]: one}, {where[:-1]: ("a table", _table)})
        _refuse(path, where, one or {}, OPTIMIZER, needed=tuple(OPTIMIZER))


def check_tensors(path: Path | str, tensors: Mapping[str, Tensor], finite: bool = True) -> None:
    """Refuse tensors that no network can be filled from: sparse, quantized, without numbers.

    Args:
        finite: refuse NaN and inf as well; each tensor is read once, and none is copied.

    Raises:
        UserError: in one line, with the file and the tensor.
    """
    for name, tensor in tensors.items():
        # Masks of attention are -inf where nothing is looked at.
        judged = finite and not name.endswith("mask")
        if fault := _fault(tensor) or (judged and not _is_finite(tensor) and "NaN or inf in it"):
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


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    with torch.no_grad():
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            # An expanded tensor: what it shows many times is read once.
            tensor = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
                tensor.untyped_storage()
            )
        if tensor.element_size() == 1:  # float8, which PyTorch can only convert
            tensor = tensor.float()
        # Of the extremes alone: isfinite would make another tensor as large.
        return all(extreme.isfinite() for extreme in tensor.aminmax())


def _refuse(
    path: Path, where: str, table: dict, rules: Rules, needed: tuple[str, ...] = ()
) -> None:
    for key, (words, check) in rules.items():
        value = table.get(key)
        if value is None and key not in needed:
            continue
        if not check(value):
            found = (
                "None" if value is None else f"{type(value).__name__} {quoted(repr(value)[:40])}"
            )
            raise UserError(f"{path}: its {where}{key} is {found}, expected {words}; {ANOTHER}")
