"""The fast augmentation: mmseg's arrays to the last bit, and its random numbers."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data.pictures import saved, written
from mmcv.transforms import Compose
from mmcv.transforms.utils import cache_random_params
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS

from fcn_plugin.data import transforms
from fcn_plugin.data.transforms import FastRandomCrop
from fcn_plugin.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
CROP = (24, 32)


@pytest.fixture(autouse=True)
def default_scope():
    """Pipelines are built from names in the default scope, which a runner would set."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def sample(seed: int, size: tuple[int, int] = (60, 90), dtype=np.uint8) -> dict[str, Any]:
    """An image of noise, and a label of a few rectangles of classes, one of them void."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, dtype)
    for _ in range(rng.integers(0, 6)):
        top, left = rng.integers(0, size)
        label[top : top + size[0] // 2, left : left + size[1] // 2] = rng.choice([0, 3, 20, 255])
    img = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return dict(img=img, gt_seg_map=label, seg_fields=["gt_seg_map"], img_shape=size)


def result(step: Callable, seed: int, inputs: dict) -> tuple[dict, np.ndarray]:
    """What ``step`` makes of copies of ``inputs``, and NumPy's random numbers after it."""
    copies = deepcopy(inputs)
    np.random.seed(seed)
    return step(copies), np.random.random(4)


def compare(
    name: str, count: int, make: Callable[[int], dict] = sample, **settings: Any
) -> list[dict]:
    """Run mmseg's step and ours on ``count`` samples; the results of ours."""
    theirs = TRANSFORMS.build(dict(type=name, **settings))
    ours = TRANSFORMS.build(dict(type=f"Fast{name}", **settings))
    results = []
    for seed in range(count):
        inputs = make(seed)
        expected, expected_random = result(theirs, seed, inputs)
        found, found_random = result(ours, seed, inputs)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, np.ndarray):
                assert found[key].dtype == value.dtype
                np.testing.assert_array_equal(found[key], value, err_msg=key)
            else:
                assert found[key] == value
        np.testing.assert_array_equal(found_random, expected_random)
        results.append(found)
    return results


def of_one_value(value: int) -> Callable[[int], dict]:
    return lambda seed: sample(seed) | dict(gt_seg_map=np.full((60, 90), value, np.uint8))


def of_channels(channels: int) -> Callable[[int], dict]:
    def make(seed: int) -> dict:
        values = np.random.RandomState(seed).randint(0, 256, (5, 8, channels))
        return dict(img=values.astype(np.uint8))

    return make


def viewed(view: Any) -> Callable[[int], dict]:
    return lambda seed: dict(img=sample(seed, (13, 17))["img"][view])


# All hues and saturations that OpenCV has: 64 levels of each of B, G and R.
LEVELS = np.arange(0, 256, 4, dtype=np.uint8)
EVERY_COLOUR = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), axis=-1).reshape(512, 512, 3)
STRONG = dict(
    brightness_delta=200, contrast_range=(0.0, 5.0), saturation_range=(0.0, 9.0), hue_delta=90
)
CROPS = dict(crop_size=CROP, cat_max_ratio=0.75)
SIZES = [(1, 1), CROP, (10, 50), (40, 20), (25, 33), (60, 90)]
DISTORTION = ("PhotoMetricDistortion", 200, partial(sample, size=(13, 17)))


def crops_and_flips(dtype: type) -> list[tuple]:
    def of(size: tuple[int, int]) -> Callable[[int], dict]:
        return partial(sample, size=size, dtype=dtype)

    ratios = [CROPS | dict(cat_max_ratio=ratio) for ratio in (0.3, 0.75, 1.0)]
    flips = [
        dict(prob=0.5),
        dict(prob=1.0, direction="vertical"),
        dict(prob=1.0, direction="diagonal"),
        dict(prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
        dict(prob=1.0, swap_seg_labels=[(3, 20)]),
    ]
    return [("RandomCrop", 20, of(size), crop) for size in SIZES for crop in ratios] + [
        ("RandomFlip", 12, of(size), flip) for size in ((1, 1), (5, 8)) for flip in flips
    ]


# mmseg's step, number of samples, what makes them, settings
CASES = [
    *crops_and_flips(np.uint8),
    *crops_and_flips(np.int64),
    *[("RandomCrop", 5, of_one_value(value), CROPS) for value in (0, 7, 255)],
    ("RandomCrop", 30, sample, CROPS | dict(cat_max_ratio=0.5, ignore_index=0)),
    *[("RandomFlip", 3, of_channels(channels), dict(prob=1.0)) for channels in (1, 3, 4, 600)],
    # So many that each of the 32 ways through the five draws of a coin is gone.
    (*DISTORTION, {}),
    (*DISTORTION, STRONG),
    (DISTORTION[0], 20, lambda seed: dict(img=EVERY_COLOUR), {}),
    (DISTORTION[0], 40, viewed(np.s_[3:, 5:]), {}),
    (DISTORTION[0], 40, viewed(np.s_[:, ::-1]), {}),
    (DISTORTION[0], 40, viewed(np.s_[::-1, ::-1]), {}),
]


@pytest.mark.parametrize(("kind", "count", "make", "settings"), CASES)
def test_a_step_does_what_mmsegs_does(kind, count, make, settings):
    results = compare(kind, count, make, **settings)
    if kind != "PhotoMetricDistortion":
        images = [found["img"] for found in results]
        assert all(img.flags.c_contiguous or img.shape[-1] > 4 for img in images)


# --- crop ----------------------------------------------------------------------------------------


def test_crop_at_the_very_ratio():
    label = np.zeros((4, 4), np.uint8)
    label[0] = 1  # the other class has 0.75, which is too much already
    bigger = np.pad(label, 3, mode="symmetric")
    inputs = dict(img=np.zeros((10, 10, 3), np.uint8), gt_seg_map=bigger)
    for ratio in (0.75, np.nextafter(0.75, 1)):
        bboxes = []
        for name in ("RandomCrop", "FastRandomCrop"):
            step = TRANSFORMS.build(dict(type=name, crop_size=(4, 4), cat_max_ratio=ratio))
            np.random.seed(1)
            bboxes.append([step.crop_bbox(inputs) for _ in range(20)])
        assert bboxes[0] == bboxes[1]
        assert step._is_mixed(label) == (ratio > 0.75)


def test_crop_counts_more_pixels_than_float32_can(monkeypatch):
    monkeypatch.setattr(transforms, "MAX_COUNT", 100)
    monkeypatch.setattr(cv2, "calcHist", None)
    compare("RandomCrop", 10, crop_size=CROP, cat_max_ratio=0.75)


def test_crop_keeps_no_hold_of_the_image():
    (found,) = compare("RandomCrop", 1, crop_size=CROP, cat_max_ratio=0.75)
    for key in ("img", "gt_seg_map"):
        assert found[key].base is None and found[key].flags.c_contiguous


def test_crop_is_shared_among_images_as_mmsegs_is():
    """And mmseg's own class is not changed by ours."""
    assert RandomCrop._methods_with_randomness == ["crop_bbox"]
    step = FastRandomCrop(CROP)
    inputs = sample(0, (600, 900))
    with cache_random_params(step):
        first, second = (result(step, seed, inputs)[0]["img"] for seed in (1, 2))
    np.testing.assert_array_equal(first, second)
    assert (result(step, 2, inputs)[0]["img"] != first).any()


def test_a_wrong_count_is_noticed(monkeypatch):
    """The comparison above can fail: with void counted as a class it does."""
    counts = transforms._counts
    monkeypatch.setattr(transforms, "_counts", lambda label, ignored: counts(label, 300))
    with pytest.raises(AssertionError):
        compare("RandomCrop", 30, crop_size=CROP, cat_max_ratio=0.75)


def test_windows():
    assert FastRandomCrop([48, 64]).crop_size == (48, 64)  # as the command line gives it
    assert FastRandomCrop(48).crop_size == (48, 48)
    for wrong in ((64.0, 64.0), (64,), (64, 64, 3), (-1, 64), 0, "64"):
        with pytest.raises(UserError, match="must be \\(height, width\\)"):
            FastRandomCrop(wrong)


# --- distortion ----------------------------------------------------------------------------------


def test_distortion_leaves_its_input():
    step = TRANSFORMS.build(dict(type="FastPhotoMetricDistortion"))
    changed = 0
    for seed in range(20):
        img, before = (sample(seed, (13, 17))["img"] for _ in range(2))
        np.random.seed(seed)
        changed += (step(dict(img=img))["img"] != before).any()
        np.testing.assert_array_equal(img, before)
    assert changed > 10


def test_distortion_wants_eight_bits():
    step = TRANSFORMS.build(dict(type="FastPhotoMetricDistortion"))
    with pytest.raises(UserError, match="image of float32; load the image with 8 bits"):
        step(dict(img=np.zeros((2, 2, 3), np.float32)))


def test_a_rounded_table_is_noticed(monkeypatch):
    """The comparison above can fail: rounded in place of cut off, it does."""

    def rounded(self, img, alpha=1, beta=0):
        values = np.rint(np.arange(256) * alpha + beta).clip(0, 255).astype(np.uint8)
        return cv2.LUT(img, values)

    monkeypatch.setattr(transforms.FastPhotoMetricDistortion, "convert", rounded)
    with pytest.raises(AssertionError):
        compare(*DISTORTION)


# --- packing -------------------------------------------------------------------------------------


def packed(inputs: dict) -> tuple[dict, dict]:
    """By ours and by mmseg's."""
    names = ("FastPackSegInputs", "PackSegInputs")
    found, expected = (TRANSFORMS.build(dict(type=name))(dict(inputs)) for name in names)
    assert found.keys() == expected.keys()
    return found, expected


@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_packing(dtype, channels):
    inputs = sample(0, (6, 9)) | dict(flip=True, img_path="a.jpg")
    whole = np.random.default_rng(1).integers(0, 256, (6, 9, channels)).astype(dtype)
    for view in (np.s_[:], np.s_[1:3, 2:], np.s_[:, ::-1]):
        viewed = dict(img=whole[view], gt_seg_map=inputs["gt_seg_map"][view])
        found, expected = packed(inputs | viewed)
        for mine, other in (
            (found["inputs"], expected["inputs"]),
            (found["data_samples"].gt_sem_seg.data, expected["data_samples"].gt_sem_seg.data),
        ):
            assert mine.dtype == other.dtype and mine.equal(other) and mine.is_contiguous()
        assert found["data_samples"].metainfo == expected["data_samples"].metainfo


def test_packing_without_image_or_label():
    packed({})
    found, expected = packed(dict(img=np.arange(6, dtype=np.uint8).reshape(2, 3)))
    assert found["inputs"].equal(expected["inputs"]) and "gt_sem_seg" not in found["data_samples"]


# --- whole pipelines -----------------------------------------------------------------------------

MMSEGS = dict(LoadCheckedLabel="LoadAnnotations")


@pytest.mark.parametrize("name", ["voc2012", "ade20k", "camvid", "shapes"])
def test_a_seed_trains_the_same(name, tmp_path):
    """A training pipeline that we ship, from the files on, against mmseg's classes."""
    steps = Config.fromfile(CONFIGS / f"_base_/datasets/{name}.py").train_pipeline
    theirs = []
    for step in steps:
        kind = MMSEGS.get(step["type"], step["type"].removeprefix("Fast"))
        settings = {key: step[key] for key in step if key not in ("num_classes", "_scope_")}
        theirs.append(dict(settings, type=kind))
    assert len({step["type"] for step in theirs} - {step["type"] for step in steps}) >= 3
    rng = np.random.default_rng(0)
    rgb = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (200, 150))
    label = rng.choice([0, 1, 2, 255], (6, 8)).astype(np.uint8).repeat(25, 0).repeat(25, 1)
    inputs = dict(
        img_path=str(written(tmp_path / "a.jpg", saved(rgb, "JPEG", quality=92))),
        seg_map_path=str(written(tmp_path / "a.png", saved(label))),
        reduce_zero_label=name == "ade20k",
        seg_fields=[],
    )
    for seed in range(6):
        (mine, mine_random), (other, other_random) = (
            result(Compose(pipeline), seed, inputs) for pipeline in (steps, theirs)
        )
        assert mine["inputs"].equal(other["inputs"])
        labels = [each["data_samples"].gt_sem_seg.data for each in (mine, other)]
        assert labels[0].equal(labels[1])
        np.testing.assert_array_equal(mine_random, other_random)
