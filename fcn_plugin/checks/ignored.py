"""Use the same ignore index everywhere in a config.

Label files mark ignored pixels with 255, which is also every default. If a config gives its heads
another ``ignore_index``, the 255 that loaders, crops and padding put into labels would be taken
for a class: the loss fails, on a GPU with a device assert.
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
HEAD = re.compile(r".*\.(decode_head|auxiliary_head|task_heads)(\.\w+)?\.ignore_index")


class Setting(NamedTuple):
    """A setting of a config that decides which label is ignored, and its value or default."""

    node: dict
    key: str
    path: str  # as for --cfg-options
    value: Any
    rules: bool = False  # of a head or a label loader, which all others follow
    image: Any = None  # the value for images, if one setting has both


def unify_ignored(cfg: Config) -> None:
    """Replace 255 by the heads' ignore index in all other settings of ``cfg``.

    Raises:
        UserError: settings contradict each other, or the number is not from 0 to 255.
    """
    for setting, number in _others(cfg):
        both = dict(img=setting.image, seg=number)
        setting.node[setting.key] = number if setting.image is None else both


def refuse_other_ignored(cfg: Config) -> None:
    """Raise ``UserError`` listing every setting whose ignore index differs from the heads'."""
    others = list(_others(cfg))
    if others:
        number = others[0][1]
        remedy = " ".join(f"{setting.path}={number}" for setting, _ in others)
        raise UserError(
            f"ignore_index={number}, but {IGNORED} still stands for ignored pixels elsewhere; set "
            f"{remedy}, or leave it at {IGNORED} everywhere"
        )


def ignored_number(cfg: Config) -> int:
    """The ignore index of the heads and label loaders of ``cfg``; 255 if none is set."""
    return _number(list(_settings(cfg)))


def _others(cfg: Config) -> Iterator[tuple[Setting, int]]:
    """The settings that are still 255, each with the number it should have."""
    settings = list(_settings(cfg))
    number = _number(settings)
    for setting in settings:
        # mmseg's own metric leaves out every label that is not a class.
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
            if kind is Pad:  # one setting for both; a plain number is for the images
                values = node.get("pad_val", 0)
                if isinstance(values, dict):
                    value = values.get("seg", IGNORED)
                    yield Setting(values, "seg", f"{path}.pad_val.seg", value)
                else:
                    yield Setting(node, "pad_val", f"{path}.pad_val.seg", IGNORED, image=values)


def _default(kind: Any, name: str) -> Any:
    """The default of an argument of ``kind``'s constructor or of a base class's."""
    for parameters in constructors(kind):
        if name in parameters:
            return parameters[name].default
        if not any(each.kind is Parameter.VAR_KEYWORD for each in parameters.values()):
            break
    return Parameter.empty
