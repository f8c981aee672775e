"""Convert between the values in a data set's label files and class indices.

    value in a file  -- reduce_zero_label, then label_map -->  class index, or void (255)
    class index      -- the inverse                       -->  value in a file

``LoadCheckedLabel`` converts file values to indices. All labels that this package writes or
returns are converted back to the data set's own numbers.

mmengine and mmseg are imported where a config is read: the numbers alone need neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import cv2
import numpy as np

from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.system.configs import class_of, constructors, innermost, type_name

IGNORED = 255
# The class of pixels without an object; labelme's name for it, and for pixels to leave out.
BACKGROUND, LABELME_BACKGROUND, LEFT_OUT = "background", "_background_", "__ignore__"
VALUES = 256  # number of values of an 8-bit label file
BLACK = (0, 0, 0)
KEYS = ("reduce_zero_label", "label_map")  # in a data set's metainfo, sometimes in a sample

Colours = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Numbering:
    """The numbers of a data set's classes in its label files.

    Attributes:
        count: number of classes.
        reduce_zero_label: 0 in the files is void, and 1 is class 0.
        label_map: pairs (old, new) of class indices, applied afterwards; others do not change.

    >>> camvid_without_sky = Numbering(2, label_map=((0, 255), (1, 1), (2, 0)))
    >>> camvid_without_sky.meaning[:3].tolist(), camvid_without_sky.numbers
    ([255, 1, 0], (2, 1))
    """

    count: int
    reduce_zero_label: bool = False
    label_map: tuple[tuple[int, int], ...] = ()

    @property
    def meaning(self) -> np.ndarray:
        """The class index of each value of a file, uint8 [256]; 255 is void."""
        return _meaning(self.reduce_zero_label, self.label_map)

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The value of each class in the files.

        If several values mean one class, the smallest that ``label_map`` names, or else the
        smallest.

        Raises:
            UserError: no value means one of the classes.
        """
        if self.count > IGNORED:  # 8 bits are not enough
            return tuple(range(self.reduce_zero_label, self.count + self.reduce_zero_label))
        reduced, named = _meaning(self.reduce_zero_label, ()), dict(self.label_map)
        value_of: dict[int, int] = {}
        for value in sorted(range(VALUES), key=lambda value: int(reduced[value]) not in named):
            value_of.setdefault(int(self.meaning[value]), value)
        missing = [index for index in range(self.count) if index not in value_of]
        if missing:
            raise UserError(
                f"no value of the data set's label files means class {missing[0]}; correct its "
                "reduce_zero_label, or the label_map that its metainfo.classes make"
            )
        return tuple(value_of[index] for index in range(self.count))

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Class indices as the data set's own numbers; anything else, such as void, as 255.

        Args:
            indices: unsigned integers of any shape.

        Returns:
            The same shape, uint8, or uint16 if a number is above 255.
        """
        wide = max(self.numbers) >= VALUES
        table = np.full(max(VALUES, self.count), IGNORED, np.uint16 if wide else np.uint8)
        table[: self.count] = self.numbers
        if indices.dtype == np.uint8 and indices.ndim == 2 and not wide:
            return cv2.LUT(indices, table)  # makes no 64-bit copy
        return table[np.minimum(indices, len(table) - 1)]

    def palette(self, colours: Colours) -> list[Sequence[int]]:
        """The colour of each number from 0 on; black if the number is no class."""
        numbered: list[Sequence[int]] = [BLACK] * (max(self.numbers) + 1)
        for number, colour in zip(self.numbers, colours, strict=False):
            numbered[number] = colour
        return numbered


@cache
def _meaning(reduce_zero_label: bool, label_map: tuple[tuple[int, int], ...]) -> np.ndarray:
    """``Numbering.meaning``, with the steps in mmseg's order."""
    meaning = np.arange(VALUES)
    if reduce_zero_label:
        meaning = np.where((meaning == 0) | (meaning == IGNORED), IGNORED, meaning - 1)
    mapped = meaning.copy()
    for old, new in label_map:
        mapped[meaning == old] = new
    return mapped.astype(np.uint8)


def numbering_of(meta: Mapping[str, Any], count: int | None = None) -> Numbering:
    """The numbering of a data set, from its ``metainfo`` or from a sample.

    Args:
        count: number of classes; by default, of the classes in ``meta``.

    Raises:
        UserError: ``label_map`` does not map integers to integers.
    """
    label_map = meta.get("label_map") or {}
    if not isinstance(label_map, Mapping) or not all(
        isinstance(number, int | np.integer) for pair in label_map.items() for number in pair
    ):
        raise UserError(f"label_map: {label_map!r} does not map integers to integers; correct it")
    return Numbering(
        len(meta["classes"]) if count is None else count,
        bool(meta.get("reduce_zero_label")),
        tuple((int(old), int(new)) for old, new in label_map.items()),
    )


# --- from a config, without the data set's files -------------------------------------------------


def metainfo_of(cfg: dict) -> dict[str, Any]:
    """The ``metainfo`` that a data set built from this config will have; wrappers are opened.

    Returns:
        ``reduce_zero_label``, ``label_map``, and if known ``classes`` and ``palette``, which has
        the order of the classes.

    Raises:
        UserError: the data sets in a wrapper number their classes in different ways.
    """
    first, *others = (_metainfo(part) for part in innermost(cfg))
    for other in others:
        if any(first[key] != other[key] for key in KEYS):
            raise UserError(
                f"the data sets in {type_name(cfg)} number their classes in several ways "
                "(reduce_zero_label, metainfo.classes), so that labels could not be written in "
                "their own; test them one by one"
            )
    return first


def check_numbers(cfg: dict) -> None:
    """Raise ``UserError`` if a config's data set has a class that no label value means."""
    meta = metainfo_of(cfg)
    if meta.get("classes"):
        numbering_of(meta).numbers  # noqa: B018  # raises


def set_colours(cfg: dict) -> None:
    """Give a config's data sets their colours in the order of their ``metainfo.classes``.

    mmseg keeps the old order if no class is left out.
    """
    for part in innermost(cfg):
        own = part.get("metainfo") or {}
        reordered = "classes" in own and "palette" not in own
        if reordered and (colours := _metainfo(part).get("palette")):
            part["metainfo"] = dict(own, palette=colours)


def _metainfo(cfg: dict) -> dict[str, Any]:
    from mmengine import list_from_file
    from mmseg.registry import DATASETS

    kind = class_of(cfg, DATASETS)
    if kind is None:
        name = type_name(cfg)
        hint = did_you_mean(name, DATASETS.module_dict, "is the package that has it imported?")
        raise UserError(f"type={name!r} in the config is no known data set; {hint}")
    shipped, own = getattr(kind, "METAINFO", None) or {}, cfg.get("metainfo") or {}
    meta = {**shipped, **own}
    if isinstance(meta.get("classes"), str):  # path of a file with the names
        meta["classes"] = list_from_file(meta["classes"])
    if "classes" in own and "palette" not in own and "palette" in shipped:
        colours = dict(zip(shipped["classes"], shipped["palette"], strict=False))
        meta["palette"] = [colours.get(name, BLACK) for name in meta["classes"]]
    try:  # other data sets than mmseg's and ours have no label map
        mapped = getattr(kind, "get_label_map", lambda classes: None)
        label_map = mapped(meta.get("classes"))
    except ValueError as error:
        raise UserError(f"{kind.__name__}: {error}; correct metainfo.classes") from error
    return dict(meta, reduce_zero_label=_reduces(kind, cfg), label_map=label_map)


def _reduces(kind: type, cfg: dict) -> bool:
    if "reduce_zero_label" in cfg:
        return bool(cfg["reduce_zero_label"])
    # The nearest constructor with this parameter sets the default; the others pass it on.
    settings = (parameters.get("reduce_zero_label") for parameters in constructors(kind))
    setting = next(filter(None, settings), None)
    return setting is not None and setting.default is True
