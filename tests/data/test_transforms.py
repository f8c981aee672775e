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
from mmengine.config import Config
from mmseg.registry import TRANSFORMS

from fcn_plugin.data.transforms import FastPhotoMetricDistortion, FastRandomCrop
from fcn_plugin.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
CROP = (24, 32)


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


def compare(name: str, count: int, make: Callable[[int], dict] = sample, **settings: Any) -> dict:
    """Run mmseg's step and ours on ``count`` samples; the last result of ours."""
    theirs = TRANSFORMS.build(dict(type=name, **settings))
    ours = TRANSFORMS.build(dict(type=f"Fast{name}", **settings))
    for seed in range(count):
        expected, expected_random = result(theirs, seed, make(seed))
        found, found_random = result(ours, seed, make(seed))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert getattr(found[key], "dtype", None) == getattr(value, "dtype", None)
            np.testing.assert_array_equal(found[key], value, err_msg=key)
        np.testing.assert_array_equal(found_random, expected_random)
        if name != "PhotoMetricDistortion":
            assert found["img"].flags.c_contiguous or found["img"].shape[-1] > 4
    return found


def of_one_value(value: int) -> Callable[[int], dict]:
    return lambda seed: sample(seed) | dict(gt_seg_map=np.full((60, 90), value, np.uint8))


def of_channels(channels: int) -> Callable[[int], dict]:
    return lambda seed: dict(img=np.resize(np.uint8([seed, 9, 77, 200, 3]), (5, 8, channels)))


# All hues and saturations that OpenCV has: 64 levels of each of B, G and R.
LEVELS = np.arange(0, 256, 4, dtype=np.uint8)
EVERY_COLOUR = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS), axis=-1).reshape(512, 512, 3)
STRONG = dict(
    brightness_delta=200, contrast_range=(0.0, 5.0), saturation_range=(0.0, 9.0), hue_delta=90
)
CROPS = dict(crop_size=CROP, cat_max_ratio=0.75)
DISTORTION = ("PhotoMetricDistortion", 200, partial(sample, size=(13, 17)))
TURNS = ["horizontal", "vertical", "diagonal"]
# mmseg's step, number of samples, what makes them, settings
CASES = [
    *[
        ("RandomCrop", 20, partial(sample, size=size), CROPS)
        for size in ((1, 1), (10, 50), (60, 90))
    ],
    ("RandomCrop", 5, of_one_value(255), CROPS),
    ("RandomCrop", 30, sample, CROPS | dict(cat_max_ratio=0.5, ignore_index=0)),
    ("RandomCrop", 20, partial(sample, dtype=np.int64), CROPS | dict(cat_max_ratio=1.0)),
    ("RandomFlip", 12, partial(sample, size=(5, 8)), dict(prob=0.75, direction=TURNS)),
    ("RandomFlip", 12, partial(sample, size=(5, 8), dtype=np.int64), dict(prob=0.5)),
    ("RandomFlip", 12, sample, dict(prob=1.0, swap_seg_labels=[(3, 20)])),
    *[("RandomFlip", 3, of_channels(channels), dict(prob=1.0)) for channels in (1, 4, 600)],
    # So many that each of the 32 ways through the five draws of a coin is gone.
    (*DISTORTION, {}),
    (*DISTORTION, STRONG),
    (DISTORTION[0], 20, lambda seed: dict(img=EVERY_COLOUR), {}),
]


@pytest.mark.parametrize(("kind", "count", "make", "settings"), CASES)
def test_a_step_does_what_mmsegs_does(kind, count, make, settings):
    compare(kind, count, make, **settings)


def test_crop_at_the_very_ratio():
    label = np.zeros((4, 4), np.uint8)
    label[0] = 1  # the other class has 0.75, which is too much already
    inputs = dict(img=np.zeros((10, 10, 3), np.uint8), gt_seg_map=np.pad(label, 3, "symmetric"))
    for ratio in (0.75, np.nextafter(0.75, 1)):
        settings = dict(crop_size=(4, 4), cat_max_ratio=ratio)
        compare("RandomCrop", 20, lambda seed: dict(inputs, seg_fields=[]), **settings)


def test_distortion_leaves_its_input():
    step, img = FastPhotoMetricDistortion(), sample(0)["img"]
    made = [step(dict(img=img))["img"] for _ in range(20)]
    np.testing.assert_array_equal(img, sample(0)["img"])
    assert sum((each != img).any() for each in made) > 10


def test_windows_and_images_that_will_not_do():
    for whole in ([48, 48], 48):  # a list as the command line gives it
        assert FastRandomCrop(whole).crop_size == (48, 48)
    for wrong in ((64.0, 64.0), (64, 64, 3), 0, "64"):
        with pytest.raises(UserError, match=r"must be \(height, width\)"):
            FastRandomCrop(wrong)
    with pytest.raises(
        UserError, match="image of float32, 3 channels; take it out of the training pipeline"
    ):
        FastPhotoMetricDistortion()(dict(img=np.zeros((2, 2, 3), np.float32)))


@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 1), ("uint8", 3), ("float32", 5)])
def test_packing(dtype, channels):
    inputs = sample(0, (6, 9)) | dict(flip=True, img_path="a.jpg")
    whole = np.random.default_rng(1).integers(0, 256, (6, 9, channels)).astype(dtype)
    for view in (np.s_[:], np.s_[1:3, 2:], np.s_[:, ::-1]):
        given = inputs | dict(img=whole[view], gt_seg_map=inputs["gt_seg_map"][view])
        found, expected = (
            TRANSFORMS.build(dict(type=name))(dict(given))
            for name in ("FastPackSegInputs", "PackSegInputs")
        )
        samples = found["data_samples"], expected["data_samples"]
        assert samples[0].metainfo == samples[1].metainfo
        labels = [each.gt_sem_seg.data for each in samples]
        for mine, other in ((found["inputs"], expected["inputs"]), labels):
            assert mine.dtype == other.dtype and mine.equal(other) and mine.is_contiguous()


@pytest.mark.parametrize("name", ["voc2012", "ade20k", "camvid", "shapes"])
def test_a_seed_trains_the_same(name, tmp_path):
    """A training pipeline that we ship, from the files on, against mmseg's classes."""
    steps = Config.fromfile(CONFIGS / f"_base_/datasets/{name}.py").train_pipeline
    theirs = []
    for step in steps:
        kind = step["type"].removeprefix("Fast").replace("LoadCheckedLabel", "LoadAnnotations")
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
