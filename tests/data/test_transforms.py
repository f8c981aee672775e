"""The fast augmentation: the host's arrays to the last bit, and its random numbers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import Compose
from mmcv.transforms.utils import cache_random_params
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import TRANSFORMS
from PIL import Image

from fcn_plugin.data import transforms
from fcn_plugin.data.transforms import FastRandomCrop
from fcn_plugin.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
CROP = (24, 32)
SIZES = [(1, 1), (24, 32), (10, 50), (40, 20), (25, 33), (60, 90)]


def size_name(size):
    return f"{size[0]}x{size[1]}"


@pytest.fixture(autouse=True)
def default_scope():
    """Pipelines are built from names in the default scope, which a runner would set."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def sample(seed, size, dtype=np.uint8):
    """An image of noise, and a label of a few rectangles of classes, one of them void."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, dtype)
    for _ in range(rng.integers(0, 6)):
        top, left = rng.integers(0, size)
        label[top : top + size[0] // 2, left : left + size[1] // 2] = rng.choice([0, 3, 20, 255])
    img = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return dict(img=img, gt_seg_map=label, seg_fields=["gt_seg_map"], img_shape=size)


def result(step, seed, inputs):
    """What ``step`` makes of copies of ``inputs``, and NumPy's random numbers after it."""
    copies = {
        key: value.copy() if hasattr(value, "copy") else value for key, value in inputs.items()
    }
    np.random.seed(seed)
    return step(copies), np.random.random(4)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value, err_msg=key)
        else:
            assert found[key] == value


def compare(name, seeds, make, **settings):
    """Run the host's step and ours on the same samples; the results of ours."""
    host = TRANSFORMS.build(dict(type=name, **settings))
    fast = TRANSFORMS.build(dict(type=f"Fast{name}", **settings))
    results = []
    for seed in seeds:
        inputs = make(seed)
        expected, expected_random = result(host, seed, inputs)
        found, found_random = result(fast, seed, inputs)
        assert_same(found, expected)
        np.testing.assert_array_equal(found_random, expected_random)
        results.append(found)
    return results


# --- crop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int64], ids=["uint8", "int64"])
@pytest.mark.parametrize("ratio", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("size", SIZES, ids=size_name)
def test_crop(size, ratio, dtype):
    compare(
        "RandomCrop",
        range(30),
        lambda seed: sample(seed, size, dtype),
        crop_size=CROP,
        cat_max_ratio=ratio,
    )


@pytest.mark.parametrize("value", [0, 7, 255], ids=["background", "one-class", "all-void"])
def test_crop_of_one_value_is_drawn_to_the_end(value):
    def make(seed):
        return sample(seed, (60, 90)) | dict(gt_seg_map=np.full((60, 90), value, np.uint8))

    compare("RandomCrop", range(5), make, crop_size=CROP, cat_max_ratio=0.75)


def test_crop_ignores_another_value():
    compare(
        "RandomCrop",
        range(30),
        lambda seed: sample(seed, (60, 90)),
        crop_size=CROP,
        cat_max_ratio=0.5,
        ignore_index=0,
    )


def test_crop_at_the_very_ratio():
    label = np.zeros((4, 4), np.uint8)
    label[0] = 1  # the other class has 0.75, which is too much already
    for ratio in (0.75, np.nextafter(0.75, 1)):
        steps = [
            TRANSFORMS.build(dict(type=name, crop_size=(4, 4), cat_max_ratio=ratio))
            for name in ("RandomCrop", "FastRandomCrop")
        ]
        assert steps[1]._is_mixed(label) == (ratio > 0.75)
        bigger = np.pad(label, 3, mode="symmetric")
        inputs = dict(img=np.zeros((10, 10, 3), np.uint8), gt_seg_map=bigger)
        bboxes = []
        for step in steps:
            np.random.seed(1)
            bboxes.append([step.crop_bbox(inputs) for _ in range(20)])
        assert bboxes[0] == bboxes[1]


def test_crop_counts_more_pixels_than_float32_can(monkeypatch):
    monkeypatch.setattr(transforms, "MAX_COUNT", 100)
    monkeypatch.setattr(cv2, "calcHist", None)
    compare(
        "RandomCrop",
        range(10),
        lambda seed: sample(seed, (60, 90)),
        crop_size=CROP,
        cat_max_ratio=0.75,
    )


def test_crop_keeps_no_hold_of_the_image():
    (found,) = compare(
        "RandomCrop", [0], lambda seed: sample(seed, (60, 90)), crop_size=CROP, cat_max_ratio=0.75
    )
    for key in ("img", "gt_seg_map"):
        assert found[key].base is None and found[key].flags.c_contiguous


def test_crop_is_shared_among_images_as_the_hosts_is():
    """And the host's own class is not changed by ours."""
    assert RandomCrop._methods_with_randomness == ["crop_bbox"]
    step = TRANSFORMS.build(dict(type="FastRandomCrop", crop_size=CROP))
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
        compare(
            "RandomCrop",
            range(30),
            lambda seed: sample(seed, (60, 90)),
            crop_size=CROP,
            cat_max_ratio=0.75,
        )


# --- flip ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int64], ids=["uint8", "int64"])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)], ids=size_name)
@pytest.mark.parametrize(
    "settings",
    [
        dict(prob=0.5),
        dict(prob=1.0, direction="vertical"),
        dict(prob=1.0, direction="diagonal"),
        dict(prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
        dict(prob=1.0, swap_seg_labels=[(3, 20)]),
    ],
    ids=["half", "vertical", "diagonal", "any", "swapped"],
)
def test_flip(settings, size, dtype):
    results = compare("RandomFlip", range(12), lambda seed: sample(seed, size, dtype), **settings)
    assert any(found["flip"] for found in results)
    assert all(found["img"].flags.c_contiguous for found in results)


@pytest.mark.parametrize("channels", [1, 4, 600])
def test_flip_of_any_number_of_channels(channels):
    def make(seed):
        values = np.random.RandomState(seed).randint(0, 256, (5, 8, channels))
        return dict(img=values.astype(np.uint8))

    compare("RandomFlip", range(3), make, prob=1.0)


@pytest.mark.parametrize(
    "crop_size", [(64.0, 64.0), (64,), (64, 64, 3), (-1, 64), 0, "64"], ids=str
)
def test_a_window_that_is_none(crop_size):
    with pytest.raises(UserError, match="must be \\(height, width\\)"):
        FastRandomCrop(crop_size)


def test_a_window_as_the_command_line_gives_it():
    assert FastRandomCrop([48, 64]).crop_size == (48, 64)
    assert FastRandomCrop(48).crop_size == (48, 48)


def test_flip_without_a_label():
    def make(seed):
        return dict(img=sample(seed, (5, 8))["img"])

    compare("RandomFlip", range(3), make, prob=1.0)


# --- distortion ----------------------------------------------------------------------------------

SETTINGS = [
    {},
    dict(
        brightness_delta=200, contrast_range=(0.0, 5.0), saturation_range=(0.0, 9.0), hue_delta=90
    ),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["default", "strong"])
def test_distortion(settings):
    """So many seeds that each of the 32 ways through the five draws of a coin is gone."""
    compare("PhotoMetricDistortion", range(200), lambda seed: sample(seed, (13, 17)), **settings)


def test_distortion_of_every_colour():
    """All hues and saturations that OpenCV has: 64 levels of each of B, G and R."""
    levels = np.arange(0, 256, 4, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(512, 512, 3)
    compare("PhotoMetricDistortion", range(20), lambda seed: dict(img=colours))


@pytest.mark.parametrize("view", [np.s_[3:, 5:], np.s_[:, ::-1], np.s_[::-1, ::-1]])
def test_distortion_of_a_view(view):
    compare(
        "PhotoMetricDistortion",
        range(40),
        lambda seed: dict(img=sample(seed, (13, 17))["img"][view]),
    )


def test_distortion_leaves_its_input():
    step = TRANSFORMS.build(dict(type="FastPhotoMetricDistortion"))
    changed = 0
    for seed in range(20):
        img = sample(seed, (13, 17))["img"]
        before = img.copy()
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
        test_distortion({})


# --- packing -------------------------------------------------------------------------------------


def packed(name, inputs):
    return TRANSFORMS.build(dict(type=name))(dict(inputs))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize(
    "view", [np.s_[:], np.s_[1:3, 2:], np.s_[:, ::-1]], ids=["whole", "window", "mirrored"]
)
def test_packing(view, dtype, channels):
    inputs = sample(0, (6, 9)) | dict(flip=True, img_path="a.jpg")
    whole = np.random.default_rng(1).integers(0, 256, (6, 9, channels)).astype(dtype)
    inputs["img"], inputs["gt_seg_map"] = whole[view], inputs["gt_seg_map"][view]
    expected, found = packed("PackSegInputs", inputs), packed("FastPackSegInputs", inputs)
    assert found.keys() == expected.keys()
    for mine, other in (
        (found["inputs"], expected["inputs"]),
        (found["data_samples"].gt_sem_seg.data, expected["data_samples"].gt_sem_seg.data),
    ):
        assert mine.dtype == other.dtype
        assert mine.is_contiguous() and other.is_contiguous()
        assert mine.equal(other)
    assert found["data_samples"].metainfo == expected["data_samples"].metainfo


def test_packing_without_image_or_label():
    assert packed("FastPackSegInputs", {}).keys() == packed("PackSegInputs", {}).keys()
    grey = dict(img=np.arange(6, dtype=np.uint8).reshape(2, 3))
    found, expected = (packed(name, grey) for name in ("FastPackSegInputs", "PackSegInputs"))
    assert found["inputs"].equal(expected["inputs"])
    assert "gt_sem_seg" not in found["data_samples"]


# --- whole pipelines -----------------------------------------------------------------------------

HOSTS = {
    "LoadImageFromFile": "LoadImageFromFile",
    "LoadCheckedLabel": "LoadAnnotations",
    "RandomResize": "RandomResize",
    "FastRandomCrop": "RandomCrop",
    "FastRandomFlip": "RandomFlip",
    "FastPhotoMetricDistortion": "PhotoMetricDistortion",
    "FastPackSegInputs": "PackSegInputs",
}


@pytest.mark.parametrize("name", ["voc2012", "ade20k", "camvid", "shapes"])
def test_a_seed_trains_the_same(name, tmp_path):
    """A training pipeline that we ship, from the files on, against the host's classes."""
    steps = Config.fromfile(CONFIGS / f"_base_/datasets/{name}.py").train_pipeline
    theirs = [
        {key: value for key, value in step.items() if key not in ("num_classes", "_scope_")}
        | dict(type=HOSTS[step["type"]])
        for step in steps
    ]
    ours, host = Compose(steps), Compose(theirs)
    rng = np.random.default_rng(0)
    rgb = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (200, 150))
    Image.fromarray(rgb).save(tmp_path / "a.jpg", quality=92)
    label = rng.choice([0, 1, 2, 255], (6, 8)).astype(np.uint8).repeat(25, 0).repeat(25, 1)
    Image.fromarray(label).save(tmp_path / "a.png")
    found = dict(
        img_path=str(tmp_path / "a.jpg"),
        seg_map_path=str(tmp_path / "a.png"),
        reduce_zero_label=name == "ade20k",
        seg_fields=[],
    )
    for seed in range(6):
        (mine, mine_random), (other, other_random) = (
            result(pipeline, seed, found) for pipeline in (ours, host)
        )
        assert mine["inputs"].equal(other["inputs"])
        labels = [each["data_samples"].gt_sem_seg.data for each in (mine, other)]
        assert labels[0].equal(labels[1])
        np.testing.assert_array_equal(mine_random, other_random)
