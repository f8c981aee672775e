"""One number for the pixels that do not count, everywhere in a config.

Label files have 255 for them, and so has every default. Where a config gives its heads another
number (``ignore_index``), the 255 that loaders, crops and padding put into labels would be taken
for a class: the loss fails, on a GPU by a device assert.
"""

import re
from collections.abc import Iterator
from inspect import Parameter
from typing import Any, NamedTuple

from mmcv.transforms import Pad
from mmengine.config import Config
from mmseg.registry import METRICS, MODELS, TRANSFORMS

from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import class_of, constructors, dicts_in, type_name

PARTS = {
    "model": MODELS,
    "train_dataloader": TRANSFORMS,
    "val_dataloader": TRANSFORMS,
    "test_dataloader": TRANSFORMS,
    "val_evaluator": METRICS,
    "test_evaluator": METRICS,
}
NAMES = ("ignore_index", "ignore_label", "seg_pad_val")
HEAD = re.compile(r".*\.(decode_head|auxiliary_head)(\.\d+)?\.ignore_index")


class Setting(NamedTuple):
    """Where a config can say which label does not count, and what it says or defaults to."""

    node: dict
    key: str
    path: str  # as for --cfg-options
    value: Any
    rules: bool = False  # a head's or a label loader's, which all others follow
    image: Any = None  # the images' own number, where one setting has both


def unify_ignored(cfg: Config) -> None:
    """Set the number that the heads of ``cfg`` ignore wherever else it stands at 255.

    Raises:
        UserError: two numbers are given, or one that no label can hold.
    """
    for setting, number in _others(cfg):
        both = dict(img=setting.image, seg=number)
        setting.node[setting.key] = number if setting.image is None else both


def refuse_other_ignored(cfg: Config) -> None:
    """Raise ``UserError`` where ``unify_ignored`` would change a setting, which names them all."""
    others = list(_others(cfg))
    if others:
        number = others[0][1]
        remedy = " ".join(f"{setting.path}={number}" for setting, _ in others)
        raise UserError(
            f"ignore_index={number}, but {IGNORED} still stands for ignored pixels elsewhere; set "
            f"{remedy}, or leave it at {IGNORED} everywhere"
        )


def ignored_number(cfg: Config) -> int:
    """The number that heads and label loaders of ``cfg`` ignore; 255 if none says another."""
    return _number(list(_settings(cfg)))


def _others(cfg: Config) -> Iterator[tuple[Setting, int]]:
    """The settings that stand at 255, and the number that they should have."""
    settings = list(_settings(cfg))
    number = _number(settings)
    for setting in settings:
        # mmseg's own metric leaves out whatever is no class.
        strict = number != IGNORED or type_name(setting.node) == "ConfusionMatrixMetric"
        if setting.value == IGNORED != number:
            yield setting, number
        elif setting.value != number and "evaluator" in setting.path and strict:
            raise UserError(
                f"{setting.path}={setting.value}, but the heads ignore {number}; set it to {number}"
            )


def _number(settings: list[Setting]) -> int:
    ruling = {s.value: s for s in settings if s.rules and s.value != IGNORED}
    if not ruling:
        return IGNORED
    (number, setting), *more = ruling.items()
    if more:
        other = more[0][1]
        raise UserError(
            f"{setting.path}={number} and {other.path}={other.value}; give both the same number"
        )
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= IGNORED:
        raise UserError(
            f"{setting.path}={number!r}: labels have 8 bits; give a number from 0 to {IGNORED}"
        )
    return number


def _settings(cfg: Config) -> Iterator[Setting]:
    for part, registry in PARTS.items():
        for path, node in dicts_in(cfg.get(part), part):
            kind = class_of(node, registry)
            for name in NAMES if kind else ():
                value = node.get(name, _default(kind, name))
                if value is not Parameter.empty:
                    place = f"{path}.{name}"
                    rules = type_name(node) == "LoadCheckedLabel" or HEAD.fullmatch(place)
                    yield Setting(node, name, place, value, bool(rules))
            if kind is Pad:  # has one setting for images and labels; a mere number is the images'
                values = node.get("pad_val", 0)
                if isinstance(values, dict):
                    value = values.get("seg", IGNORED)
                    yield Setting(values, "seg", f"{path}.pad_val.seg", value)
                else:
                    yield Setting(node, "pad_val", f"{path}.pad_val.seg", IGNORED, image=values)


def _default(kind: Any, name: str) -> Any:
    """The default of a constructor's argument, which may be one of a base class."""
    for parameters in constructors(kind):
        if name in parameters:
            return parameters[name].default
        if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
            break
    return Parameter.empty
