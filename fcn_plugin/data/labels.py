"""Read and check labels; ``label_arrays`` counts and writes them.

mmseg's loader wraps label values above 255, and lets a value that is no class fail in the loss;
here both raise one error that names the file.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS

from fcn_plugin.data.label_arrays import pixel_counts as pixel_counts
from fcn_plugin.data.label_arrays import save_labels as save_labels
from fcn_plugin.data.numbering import IGNORED, numbering_of
from fcn_plugin.data.picture_files import (
    WIDE_MODES,
    check_rows,
    content_of,
    damage_named,
    numbers_in_words,
    open_checked,
    raw_mode_of,
)
from fcn_plugin.data.tasks import TASKS, check_task, fields
from fcn_plugin.errors import UserError, some, width_by_height

INDEX_MODES = ("1", "L", "P", *WIDE_MODES)
# Pillow stretches 2-bit and 4-bit grey to 0..255; divided by these numbers it is indices again.
STRETCHED = {"L;2": 255 // 3, "L;4": 255 // 15}
# Other formats lose indices (JPEG), renumber them (GIF) or stretch them (PGM).
LABEL_FORMATS = ("PNG", "TIFF", "BMP")
LOSSY_TIFFS = ("jpeg", "webp")


# --- read ----------------------------------------------------------------------------------------


def read_label(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """The class indices [H, W] in a grey or palette label; uint8, or wider if the file is.

    Args:
        backend_args: Where files are read from, as for mmseg's loaders.

    Raises:
        UserError: the file is missing, truncated, in colour, or in a format that may change
            indices.
    """
    content = content_of(path, "label", backend_args)
    image = open_checked(content, path, "label")
    with damage_named(path, "label", content):
        raw_mode = raw_mode_of(image)
        image.load()
        check_rows(image, None, content)
    fault, remedy = "", "save the class indices as PNG"
    if image.mode == "F":
        fault = f"label of {numbers_in_words(image)}"
    elif image.mode not in INDEX_MODES:
        fault = f"label in colour (mode {image.mode})"
        remedy = "save the class indices as one channel (grey or palette)"
    # In some grey TIFFs 0 is white ("L;I").
    elif (
        image.format not in LABEL_FORMATS
        or image.info.get("compression") in LOSSY_TIFFS
        or (raw_mode.startswith(("1;", "L;")) and raw_mode not in STRETCHED)
    ):
        fault = f"label in {image.format} (raw mode {raw_mode}), which may change class indices"
    if fault:
        raise UserError(f"{path}: {fault}; {remedy}")
    stored = np.asarray(image)
    if stored.dtype == bool:
        return stored.astype(np.uint8)
    return stored // STRETCHED[raw_mode] if raw_mode in STRETCHED else stored


@TRANSFORMS.register_module()
class LoadCheckedLabel(LoadAnnotations):
    """Load ``seg_map_path`` as class indices; replaces mmseg's ``LoadAnnotations``.

    Adds ``gt_seg_map`` [H, W] uint8, and its name to ``seg_fields``: the values of the file after
    the data set's ``reduce_zero_label`` and ``label_map``. Each is below ``num_classes`` or equals
    ``ignore_index``, and so does every pixel of ``nodata``, the mask of ``LoadBands``. A sample
    without ``seg_map_path`` is returned unchanged.

    Args:
        num_classes: As in the decode head, at most 255.
        backend_args: Where files are read from, as in mmseg's loader.
        ignore_index: As in the decode head, 0 to 255; void (255) is replaced by it.
        task: Load the label of this task of a ``MultiTaskDataset``; adds e.g. ``gt_geo_seg``.

    Raises:
        UserError: the file is missing, truncated or in colour, has another size than its image,
            or holds a value that is no class.
    """

    def __init__(
        self,
        num_classes: int,
        backend_args: dict | None = None,
        ignore_index: int = IGNORED,
        task: str | None = None,
    ) -> None:
        super().__init__(backend_args=backend_args)
        if not 1 <= num_classes <= IGNORED:
            raise UserError(f"LoadCheckedLabel: num_classes={num_classes}; give 1 to {IGNORED}")
        if not 0 <= ignore_index <= IGNORED:
            raise UserError(f"LoadCheckedLabel: ignore_index={ignore_index}; give 0 to {IGNORED}")
        if task is not None:
            check_task(task)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.task = task

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        info = results if self.task is None else results.get(TASKS, {}).get(self.task, {})
        path = info.get("seg_map_path")
        if path is None:
            return results
        stored = read_label(path, self.backend_args)
        # Not img_shape, because test pipelines resize the image before they load the label.
        shape = tuple(results.get("ori_shape", stored.shape)[:2])
        if stored.shape != shape:
            sizes = f"{width_by_height(stored.shape)} for an image of {width_by_height(shape)}"
            raise UserError(f"{path}: label of {sizes}; use the label made for this image")
        meaning = numbering_of(info, self.num_classes).meaning
        if self.ignore_index != IGNORED:
            meaning = np.where(meaning == self.ignore_index, np.uint8(IGNORED), meaning)
        label = cv2.LUT(stored.astype(np.uint8, copy=False), meaning)
        # Quick test, which most labels pass: 255 + 1 is 0, so legal values + 1 are <= num_classes.
        if stored.dtype != np.uint8 or (label + np.uint8(1)).max() > self.num_classes:
            legal = np.flatnonzero((meaning < self.num_classes) | (meaning == IGNORED)).tolist()
            if wrong := values_outside(legal, stored):
                raise UserError(
                    f"{path}: label values {values_in_words(wrong)}, but with "
                    f"num_classes={self.num_classes} only {ranges_in_words(legal)} are legal; "
                    "correct the file or num_classes"
                )
        if "nodata" in results:  # of LoadBands
            label[results["nodata"]] = IGNORED
        if self.ignore_index != IGNORED:
            label[label == IGNORED] = self.ignore_index
        key = "gt_seg_map" if self.task is None else fields(self.task).truth
        results[key] = label
        results["seg_fields"].append(key)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_classes={self.num_classes})"


# --- check -----------------------------------------------------------------------------


def values_outside(legal: Container[int], labels: np.ndarray) -> dict[int, int]:
    """Each label value that is not ``legal`` -> its number of pixels; labels of any shape.

    >>> values_outside(range(3), np.array([[0, 7, 7], [-1, 2, 0]]))
    {-1: 1, 7: 2}
    """
    values, counts = np.unique(labels, return_counts=True)
    pixels = zip(values.tolist(), counts.tolist(), strict=True)
    return {value: count for value, count in pixels if value not in legal}


def values_in_words(pixels: Mapping[int, int]) -> str:
    """Label values and their pixel counts as text; a long list is cut.

    >>> values_in_words({7: 2, 20: 1})
    '7 (2 px), 20 (1 px)'
    """
    return some([f"{value} ({count} px)" for value, count in pixels.items()])


def ranges_in_words(values: Iterable[int]) -> str:
    """Label values as text, runs of them as ranges.

    >>> ranges_in_words([255, 0, 1, 2])
    '0-2, 255'
    """
    ordered = np.unique(list(values))
    runs = np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


# --- colours --------------------------------------------------------------------------------------


def voc_palette() -> list[list[int]]:
    """The 256 RGB colours of PASCAL VOC: the bits of the index go to R, G and B in turn."""
    return [
        [
            sum(((index >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8))
            for channel in range(3)
        ]
        for index in range(256)
    ]


def in_full(palette: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """``palette`` padded to 256, because Pillow writes shorter ones with fewer bits per pixel."""
    return [*palette, *voc_palette()[len(palette) :]]
