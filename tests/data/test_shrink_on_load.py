"""``shrink_on_load``: a JPEG decoded at a fraction stands for the whole one where it is resized."""

from typing import Any

import cv2
import numpy as np
import pytest
from data.pictures import CLASSES, exif, load_image, saved, written
from mmcv.transforms import Compose
from PIL import Image

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.errors import DamagedFile, UserError
from fcn_plugin.prediction.reading import Reader
from fcn_plugin.prepare.drawing import draw

HIGH, WIDE = 304, 408  # multiples of 8
SCALE = (1000, 100)
ROWS, COLS = np.mgrid[:HIGH, :WIDE]
HEIGHT = 120  # of waves of 125 pixels and more, different in each direction and channel
SMOOTH = np.stack(
    [127 + HEIGHT / 2 * (np.sin(ROWS / 20 + n) + np.sin(COLS / (20 + n))) for n in range(3)],
    axis=-1,
).astype(np.uint8)
DRAWN, SHAPES = (array[:HIGH] for array in draw(0, "train", 1, WIDE))
LABEL = (SHAPES % CLASSES).astype(np.uint8)
LOAD_LABEL = dict(type="LoadCheckedLabel", num_classes=CLASSES)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    return saved(pixels, "JPEG", **dict(quality=95, subsampling=0) | options)


def both(path, steps: list[dict], scale=SCALE, seed: int = 0, **sample) -> tuple[dict, dict]:
    """A sample by the steps after loading, shrunk and in full."""
    results = []
    for shrink_on_load in (scale, None):
        np.random.seed(seed)
        load = dict(type="LoadCheckedImage", shrink_on_load=shrink_on_load)
        inputs = dict(img_path=str(path), seg_fields=[], reduce_zero_label=False, **sample)
        results.append(Compose([load, *steps])(inputs) | dict(random=np.random.random()))
        # mmcv's factor of the image that it was given
        del results[-1]["scale_factor"]
    return results[0], results[1]


def resize(*scale: int) -> dict:
    return dict(type="Resize", scale=scale, keep_ratio=True)


def distance(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """Mean and maximum of the absolute differences."""
    apart = np.abs(one.astype(int) - other)
    return apart.mean(), apart.max()


SCALES = [(1000, 100), (100, 1000), (204, 152), (150, 150), (90, 70), (51, 51), (30, 40), (20, 20)]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_a_smooth_picture_stays_and_all_else_is_the_same(tmp_path, scale):
    """Up to rounding, thrice, and to how much the means over larger pixels flatten its waves.

    The mean of a wave sin(x / 20) over weights of variance v flattens it by v / 800 of its height.
    Pixels of 1/n have a variance of n² / 12, and bilinear weights between them at most n² / 4.
    """
    path = written(tmp_path / "a.jpg", jpeg(SMOOTH))
    shrunk, full = both(path, [resize(*scale)], scale)
    n = HIGH // len(load_image(path, shrink_on_load=scale))
    assert distance(shrunk.pop("img"), full.pop("img"))[1] <= 3 + HEIGHT * n**2 / 3 / 800
    assert shrunk == full and shrunk["ori_shape"] == (HIGH, WIDE)


@pytest.mark.parametrize("side", [137, 76, 60, 38, 30])
def test_fine_texture_is_averaged_which_resizing_in_full_skips(tmp_path, side):
    """It is nearer to the mean over each new pixel's area."""
    noise = np.random.default_rng(0).normal(0, 12, (HIGH, WIDE, 1))
    path = written(tmp_path / "a.jpg", jpeg(np.clip(DRAWN + noise, 0, 255).astype(np.uint8)))
    results = both(path, [resize(1000, side)], (1000, side))
    shrunk, full = (result["img"] for result in results)
    areas = cv2.resize(load_image(path), shrunk.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert distance(shrunk, areas)[0] < 0.9 * distance(full, areas)[0]


DIVISORS = [
    ((304, 408), (1000, 500), 1),
    ((304, 408), (1000, 153), 1),
    ((304, 408), (1000, 152), 2),
    ((304, 408), (152, 1000), 2),
    ((408, 304), (204, 200), 2),
    ((304, 408), (1000, 77), 2),
    ((304, 408), (1000, 76), 4),
    ((304, 408), (100, 102), 4),
    ((304, 408), (38, 1000), 8),
    ((304, 408), (5, 5), 8),
    ((300, 404), (5, 5), 4),
    ((302, 408), (5, 5), 2),
    ((303, 408), (5, 5), 1),
]


@pytest.mark.parametrize(("shape", "scale", "divisor"), DIVISORS)
def test_the_smallest_fraction_without_enlarging_or_remainder(tmp_path, shape, scale, divisor):
    path = written(tmp_path / "a.jpg", jpeg(np.zeros((*shape, 3), np.uint8)))
    for given in (scale, list(scale)):
        loaded = LoadCheckedImage(shrink_on_load=given)(dict(img_path=str(path)))
        assert loaded["ori_shape"] == shape
        assert (
            loaded["img"].shape[:2] == loaded["img_shape"] == tuple(np.floor_divide(shape, divisor))
        )


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(tmp_path, turn):
    shrunk, full = both(written(tmp_path / "a", jpeg(SMOOTH, exif=exif(turn))), [resize(*SCALE)])
    assert distance(shrunk.pop("img"), full.pop("img"))[1] < 5
    assert shrunk == full and shrunk["ori_shape"] == ((WIDE, HIGH) if turn > 4 else (HIGH, WIDE))


IN_FULL = {
    "PNG": saved(SMOOTH),
    "TIFF": saved(SMOOTH, "TIFF"),
    "CMYK": saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "XMP": jpeg(SMOOTH, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"),
    "odd": jpeg(SMOOTH[1:]),
}


@pytest.mark.parametrize("name", IN_FULL)
def test_other_files_are_decoded_in_full(tmp_path, name):
    path = written(tmp_path / "a", IN_FULL[name])
    np.testing.assert_array_equal(load_image(path, shrink_on_load=SCALE), load_image(path))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_damage_is_found_as_in_full(tmp_path, mode):
    content = saved(Image.fromarray(DRAWN).convert(mode), "JPEG")
    begin = content.index(b"\xff\xda")
    for kept in (0.1, 0.5, 0.95, 0.99):
        cut = content[: begin + int(kept * (len(content) - begin))].rstrip(b"\xff")
        for end in (b"", b"\xff\xd9"):
            path = written(tmp_path / "a.jpg", cut + end)
            for scale in (None, (1000, 150), (1000, 70), (1000, 30)):
                with pytest.raises(DamagedFile, match=r"a\.jpg: damaged image"):
                    load_image(path, shrink_on_load=scale)


def test_the_whole_picture_is_checked_for_its_size(tmp_path):
    def refuse(path: Any, size: tuple[int, int]) -> None:
        raise UserError(f"{size}")

    load = LoadCheckedImage(shrink_on_load=SCALE)
    load.check_size = refuse
    with pytest.raises(UserError, match=rf"\({WIDE}, {HIGH}\)"):
        load(dict(img_path=str(written(tmp_path / "a.jpg", jpeg(DRAWN)))))


@pytest.mark.parametrize("scale", [512, (512,), (512, 0), (512, 1.5), (-1, 512), (True, 512), {}])
def test_what_is_no_scale_is_refused(scale):
    with pytest.raises(UserError, match=r"shrink_on_load=.*; give the scale of the pipeline's"):
        LoadCheckedImage(shrink_on_load=scale)


def test_labels_and_random_numbers_in_training(tmp_path):
    image = written(tmp_path / "a.jpg", jpeg(SMOOTH))
    label = str(written(tmp_path / "a.png", saved(LABEL)))
    vary = dict(type="RandomResize", scale=(300, 75), ratio_range=(0.5, 2.0), keep_ratio=True)
    for seed in range(20):
        shrunk, full = both(image, [LOAD_LABEL, vary], (600, 150), seed, seg_map_path=label)
        assert distance(shrunk.pop("img"), full.pop("img"))[1] < 5
        np.testing.assert_array_equal(shrunk.pop("gt_seg_map"), full.pop("gt_seg_map"))
        assert shrunk == full


def test_scoring_has_the_label_in_full(tmp_path):
    image = written(tmp_path / "a.jpg", jpeg(SMOOTH))
    label = str(written(tmp_path / "a.png", saved(LABEL)))
    shrunk, _ = both(image, [resize(*SCALE), LOAD_LABEL], seg_map_path=label)
    np.testing.assert_array_equal(shrunk["gt_seg_map"], LABEL)


@pytest.mark.parametrize("tta", [False, True])
def test_prediction_takes_the_whole_picture(tmp_path, tta):
    path = written(tmp_path / "a.jpg", jpeg(SMOOTH))
    steps = [resize(*SCALE), dict(type="PackSegInputs")]
    if tta:
        steps = [dict(type="TestTimeAug", transforms=[[steps[0]], [steps[1]]])]
    load = dict(type="LoadImageFromFile", _scope_="fcn_plugin")
    shrunk, full = (
        Reader([dict(load, shrink_on_load=scale), *steps])(path) for scale in (SCALE, None)
    )
    assert shrunk.image.shape == (HIGH, WIDE, 3)
    np.testing.assert_array_equal(shrunk.inputs[0], full.inputs[0])
