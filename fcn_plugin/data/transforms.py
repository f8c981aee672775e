"""mmseg's augmentation of 8-bit images and labels, the same to the last bit in less time.

Each class takes the random numbers of mmseg's class of the same name, in the same order, and gives
the same arrays, so a seed means the same training run with either. What is quicker:

- A crop's classes are counted by a histogram; mmseg sorts the pixels of up to ten crops.
- A distortion of one 8-bit value has 256 results: a table of them, in place of arithmetic in
  floating point on every pixel.
- Images stay contiguous. NumPy copies a mirrored view some thirty times slower than OpenCV mirrors.
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
from mmseg.datasets.transforms import PackSegInputs, PhotoMetricDistortion, RandomCrop
from mmseg.registry import TRANSFORMS

from fcn_plugin.errors import UserError

# How often mmseg draws another crop for one in which a class has too large a share.
TRIES = 10
# OpenCV's histogram counts in float32, exactly up to here.
MAX_COUNT = 1 << 24
VALUES = np.arange(256, dtype=np.uint8)
HUE, SATURATION = 0, 1
HUES = 180  # OpenCV's degrees of hue in 8 bits are double ones
MAX_CHANNELS = 4  # enough of OpenCV's 512
MIRRORED = dict(horizontal=1, vertical=0, diagonal=-1)  # OpenCV's names of the directions


@TRANSFORMS.register_module()
class FastRandomCrop(RandomCrop):
    """mmseg's ``RandomCrop``: a random window of ``crop_size``, not nearly all of one class.

    Changes ``img`` [H, W, C], every label of ``seg_fields`` [H, W] and ``img_shape``. Arguments are
    mmseg's. The crops are copies, so that the whole image is not kept for them.
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

    # mmcv lists here what several images share; without a list of its own it adds to RandomCrop's.
    _methods_with_randomness: list[str] = []

    @cache_randomness
    def crop_bbox(self, results: dict[str, Any]) -> tuple[int, int, int, int]:
        """The window as (top, bottom, left, right), beyond the image where that is smaller."""
        shape = results["img"].shape
        bbox = self._draw(shape)
        if self.cat_max_ratio >= 1:
            return bbox
        label = results["gt_seg_map"]
        # An image not larger than the window gives the same one each time.
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
        """Whether there are two classes or more, none with ``cat_max_ratio`` of the pixels."""
        counts = _counts(label, self.ignore_index)
        return len(counts) > 1 and counts.max() / counts.sum() < self.cat_max_ratio

    def crop(self, img: np.ndarray, crop_bbox: tuple[int, int, int, int]) -> np.ndarray:
        """A copy of the window of an image or label."""
        return np.ascontiguousarray(super().crop(img, crop_bbox))


def _counts(label: np.ndarray, ignored: int) -> np.ndarray:
    """Pixels of each class that occurs."""
    if label.dtype != np.uint8 or label.size > MAX_COUNT:
        values, counts = np.unique(label, return_counts=True)
        return counts[values != ignored]
    counts = cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(int)
    occurs = (counts > 0) & (ignored != VALUES)
    return counts[occurs]


@TRANSFORMS.register_module()
class FastRandomFlip(RandomFlip):
    """mmseg's ``RandomFlip``, which mirrors ``img`` and ``gt_seg_map``, or leaves both.

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
                    # Mirrored again it is contiguous, as OpenCV wants it.
                    mirrored = cv2.flip(mmcv.imflip(view, direction), MIRRORED[direction])
                    results[key] = mirrored.reshape(view.shape)  # OpenCV drops a channel of one
        return results


@TRANSFORMS.register_module()
class FastPhotoMetricDistortion(PhotoMetricDistortion):
    """mmseg's ``PhotoMetricDistortion``: random brightness, contrast, saturation and hue.

    Changes ``img`` [H, W, 3] uint8 (BGR). Arguments are mmseg's.

    Raises:
        UserError: the image is not of 8 bits.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Distort ``results["img"]``; the array itself is left as it was."""
        dtype = results["img"].dtype
        if dtype != np.uint8:
            remedy = "load the image with 8 bits, or take PhotoMetricDistortion"
            raise UserError(f"FastPhotoMetricDistortion: an image of {dtype}; {remedy}")
        return super().transform(results)

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """``alpha * img + beta``, limited to 0..255, its fraction cut off; uint8."""
        return cv2.LUT(img, super().convert(VALUES, alpha, beta))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """The image, or every second time one of other saturation."""
        if np.random.randint(2):
            alpha = np.random.uniform(self.saturation_lower, self.saturation_upper)
            img = _replaced(img, SATURATION, super().convert(VALUES, alpha))
        return img

    def hue(self, img: np.ndarray) -> np.ndarray:
        """The image, or every second time one of other hue."""
        if np.random.randint(2):
            turn = np.random.randint(-self.hue_delta, self.hue_delta)
            img = _replaced(img, HUE, ((VALUES.astype(int) + turn) % HUES).astype(np.uint8))
        return img


def _replaced(img: np.ndarray, channel: int, table: np.ndarray) -> np.ndarray:
    """The BGR image with one channel of its HSV replaced by what ``table`` [256] has for it."""
    planes = list(cv2.split(mmcv.bgr2hsv(img)))
    planes[channel] = cv2.LUT(planes[channel], table)
    return mmcv.hsv2bgr(cv2.merge(planes))


@TRANSFORMS.register_module()
class FastPackSegInputs(PackSegInputs):
    """mmseg's ``PackSegInputs``: the tensors and the sample that a segmentor is given.

    ``inputs`` is [C, H, W] of the image's type, ``data_samples`` a ``SegDataSample`` with the label
    [1, H, W] int64. Arguments are mmseg's.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the keys that are there."""
        img = results.get("img")
        if img is None or img.ndim != 3 or img.dtype != np.uint8:
            return super().transform(results)
        others = {key: value for key, value in results.items() if key != "img"}
        planes = np.stack(cv2.split(np.ascontiguousarray(img)))
        return dict(inputs=torch.from_numpy(planes), **super().transform(others))
