"""Faster versions of mmseg's augmentations of 8-bit images and labels, with equal results.

Each class draws the random numbers of mmseg's class of the same name in the same order and returns
the same arrays, so a seed gives the same training run with either. They are faster because:

- A histogram counts the classes of a crop; mmseg sorts the pixels of up to ten crops.
- A distortion of an 8-bit value has only 256 results: a table replaces floating-point arithmetic
  on every pixel.
- Images stay contiguous. NumPy's copy of a mirrored view takes some 30 times as long as OpenCV's.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmcv.transforms import RandomFlip
from mmcv.transforms.utils import cache_randomness
from mmengine.structures import PixelData
from mmseg.datasets.transforms import PackSegInputs, PhotoMetricDistortion, RandomCrop
from mmseg.registry import TRANSFORMS

from fcn_plugin.data.tasks import task_labels
from fcn_plugin.errors import UserError

# How often mmseg draws a new crop if one class fills too much of it.
TRIES = 10
# OpenCV's histogram counts in float32, which is exact up to this number.
MAX_COUNT = 1 << 24
VALUES = np.arange(256, dtype=np.uint8)
HUE, SATURATION = 0, 1
HUES = 180  # OpenCV stores hue in 8 bits, in steps of 2 degrees
MAX_CHANNELS = 4  # images with more are left to mmcv; OpenCV's limit is 512
MIRRORED = dict(horizontal=1, vertical=0, diagonal=-1)  # OpenCV's flip codes


@TRANSFORMS.register_module()
class FastRandomCrop(RandomCrop):
    """mmseg's ``RandomCrop``: a random window, drawn again if one class fills too much of it.

    Changes ``img`` [H, W, C], every label of ``seg_fields`` [H, W] and ``img_shape``. Arguments are
    mmseg's. The crops are copies, so the memory of the whole image is freed.
    """

    def __init__(
        self, crop_size: int | Sequence[int], cat_max_ratio: float = 1.0, ignore_index: int = 255
    ) -> None:
        sides = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
        if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
            raise UserError(
                f"FastRandomCrop: crop_size {crop_size!r}, must be (height, width) in pixels"
            )
        super().__init__(sides, cat_max_ratio, ignore_index)

    # cache_randomness appends to this list; without one here it would append to RandomCrop's.
    _methods_with_randomness: list[str] = []

    @cache_randomness
    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """The window as (top, bottom, left, right); it may exceed a smaller image."""
        shape = results["img"].shape
        bbox = self._draw(shape)
        if self.cat_max_ratio >= 1:
            return bbox
        label = results["gt_seg_map"]
        # Cached: an image no larger than the window gives the same window each time.
        is_mixed = cache(lambda bbox: self._is_mixed(super(FastRandomCrop, self).crop(label, bbox)))
        for _ in range(TRIES):
            if is_mixed(bbox):
                break
            bbox = self._draw(shape)
        return bbox

    def _draw(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        height, width = self.crop_size
        top = np.random.randint(0, max(shape[0] - height, 0) + 1)
        left = np.random.randint(0, max(shape[1] - width, 0) + 1)
        return top, top + height, left, left + width

    def _is_mixed(self, label: np.ndarray) -> bool:
        """Whether the label has two classes or more, each below ``cat_max_ratio`` of the pixels."""
        counts = _counts(label, self.ignore_index)
        return len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio

    def crop(self, img: np.ndarray, crop_bbox: tuple[int, int, int, int]) -> np.ndarray:
        """A copy of the window of an image or label."""
        return np.ascontiguousarray(super().crop(img, crop_bbox))


def _counts(label: np.ndarray, ignored: int) -> np.ndarray:
    """The number of pixels of each class that occurs, without ``ignored``."""
    if label.dtype != np.uint8 or label.size > MAX_COUNT:
        values, counts = np.unique(label, return_counts=True)
        return counts[values != ignored]
    counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(int)
    occurs = (counts > 0) & (ignored != VALUES)
    return counts[occurs]


@TRANSFORMS.register_module()
class FastRandomFlip(RandomFlip):
    """mmseg's ``RandomFlip``, which mirrors ``img`` and all labels, or leaves them as they are.

    Arguments are mmseg's. Mirrored 8-bit arrays are contiguous; mmcv gives views with
    negative strides.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror, and add ``flip`` and ``flip_direction``."""
        results = super().transform(results)
        if results["flip"]:
            direction = results["flip_direction"]
            for key in ("img", "gt_seg_map"):
                view = results.get(key)
                if view is not None and view.dtype == np.uint8 and view[0, 0].size <= MAX_CHANNELS:
                    # mmcv's view, mirrored back, is contiguous as OpenCV needs it.
                    mirrored = cv2.flip(mmcv.imflip(view, direction), MIRRORED[direction])
                    results[key] = mirrored.reshape(view.shape)  # OpenCV drops an axis of 1
            for key in task_labels(results.get("seg_fields", ())):
                results[key] = cv2.flip(results[key], MIRRORED[direction])
        return results


@TRANSFORMS.register_module()
class FastPhotoMetricDistortion(PhotoMetricDistortion):
    """mmseg's ``PhotoMetricDistortion``: random brightness, contrast, saturation and hue.

    Changes ``img`` [H, W, 3] uint8 (BGR). Arguments are mmseg's.

    Raises:
        UserError: the image is not uint8, or has not three channels.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace ``results["img"]`` by a distorted copy."""
        img = results["img"]
        if img.dtype != np.uint8 or img.shape[2:] != (3,):
            remedy = "take it out of the training pipeline, for it changes 8-bit colours"
            bands = img.shape[2] if img.ndim == 3 else 1
            raise UserError(
                f"FastPhotoMetricDistortion: an image of {img.dtype}, {bands} channels; {remedy}"
            )
        return super().transform(results)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """``alpha * img + beta``, clipped to 0..255 and truncated to uint8."""
        return cv2.LUT(img, super().convert(VALUES, alpha, beta))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """The image, with probability 1/2 with its saturation scaled at random."""
        if np.random.randint(2):
            alpha = np.random.uniform(self.saturation_lower, self.saturation_upper)
            img = _replaced(img, SATURATION, super().convert(VALUES, alpha))
        return img

    def hue(self, img: np.ndarray) -> np.ndarray:
        """The image, with probability 1/2 with its hue shifted at random."""
        if np.random.randint(2):
            turn = np.random.randint(-self.hue_delta, self.hue_delta)
            img = _replaced(img, HUE, ((VALUES.astype(int) + turn) % HUES).astype(np.uint8))
        return img


def _replaced(img: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """The BGR image after mapping one of its HSV channels through ``table`` [256]."""
    planes = list(cv2.split(mmcv.bgr2hsv(img)))
    planes[channel] = cv2.LUT(planes[channel], table)
    return mmcv.hsv2bgr(cv2.merge(planes))


@TRANSFORMS.register_module()
class FastPackSegInputs(PackSegInputs):
    """mmseg's ``PackSegInputs``: the image tensor and the data sample for a segmentor.

    ``inputs`` is [C, H, W] of the image's dtype, ``data_samples`` a ``SegDataSample`` with the
    label [1, H, W] int64, and with those of further tasks. Arguments are mmseg's.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the keys that ``results`` has."""
        img = results.get("img")
        if img is None or img.ndim != 3 or img.dtype != np.uint8:
            packed = super().transform(results)
        else:
            others = {key: value for key, value in results.items() if key != "img"}
            planes = np.stack(cv2.split(np.ascontiguousarray(img)))
            packed = dict(inputs=torch.from_numpy(planes), **super().transform(others))
        for key in task_labels(results.get("seg_fields", ())):
            label = torch.from_numpy(results[key][None].astype(np.int64))
            packed["data_samples"].set_data({key: PixelData(data=label)})
        return packed
