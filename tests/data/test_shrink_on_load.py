"""``shrink_on_load``: a JPEG decoded at a fraction stands for the whole one, resized."""

from typing import Any

import cv2
import numpy as np
import pytest
from data.pictures import CLASSES, exif, saved, written
from mmcv.transforms import Compose
from PIL import Image

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.errors import DamagedFile, UserError
from fcn_plugin.prediction.reading import Reader
from fcn_plugin.prepare.drawing import draw
from fcn_plugin.system.configs import pipeline_of

HIGH, WIDE = 301, 403  # no multiples of 8
WITHIN = dict(type="Resize", scale=(1000, 100), keep_ratio=True)
ROWS, COLS = np.mgrid[:HIGH, :WIDE]
# Waves of 125 pixels and more, different in each direction and channel.
SMOOTH = np.stack(
    [127 + 60 * np.sin(ROWS / 20 + n) + 60 * np.sin(COLS / (20 + n)) for n in range(3)], axis=-1
).astype(np.uint8)
DRAWN, SHAPES = (array[:HIGH] for array in draw(0, "train", 1, WIDE))
LABEL = (SHAPES % CLASSES).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    return saved(pixels, "JPEG", **dict(quality=95, subsampling=0) | options)


def both(path, resize: dict, labels: tuple = (), seed: int = 0, **sample) -> tuple[dict, dict]:
    """The sample by one step that shrinks on loading, and by loading and resizing in full."""
    load, results = dict(type="LoadCheckedImage"), []
    for steps in ([dict(load, shrink_on_load=resize)], [load, resize]):
        np.random.seed(seed)
        inputs = dict(img_path=str(path), seg_fields=[], reduce_zero_label=False, **sample)
        results.append(Compose([*labels, *steps])(inputs) | dict(random=np.random.random()))
    return results[0], results[1]


def distance(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """Mean and maximum of the absolute differences."""
    apart = np.abs(one.astype(int) - other)
    return apart.mean(), apart.max()


RESIZINGS = [
    WITHIN,
    dict(type="Resize", scale=(70, 90)),
    *(dict(type="Resize", scale_factor=factor) for factor in (0.5, 0.3, 0.25, 0.13, 0.06)),
]


@pytest.mark.parametrize("resize", RESIZINGS, ids=str)
def test_smooth_pictures_stay_and_all_else_is_the_same(tmp_path, resize):
    shrunk, full = both(written(tmp_path / "a.jpg", jpeg(SMOOTH)), resize)
    mean, most = distance(shrunk.pop("img"), full.pop("img"))
    assert mean < 1 and most < 5, (mean, most)
    assert shrunk == full and shrunk["ori_shape"] == (HIGH, WIDE)


@pytest.mark.parametrize("factor", [0.45, 0.25, 0.2, 0.125, 0.1])
def test_fine_texture_is_averaged_which_resizing_in_full_skips(tmp_path, factor):
    """It is nearer to the mean over each new pixel's area."""
    resize = dict(type="Resize", scale_factor=factor)
    noise = np.random.default_rng(0).normal(0, 12, (HIGH, WIDE, 1))
    textured = np.clip(DRAWN + noise, 0, 255).astype(np.uint8)
    path = written(tmp_path / "a.jpg", jpeg(textured))
    shrunk, full = (result["img"] for result in both(path, resize))
    pixels = LoadCheckedImage()(dict(img_path=str(path)))["img"]
    areas = cv2.resize(pixels, shrunk.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert distance(shrunk, areas)[0] < 0.9 * distance(full, areas)[0]


FLAGS = {
    1.5: cv2.IMREAD_COLOR,
    0.51: cv2.IMREAD_COLOR,
    0.5: cv2.IMREAD_REDUCED_COLOR_2,
    0.26: cv2.IMREAD_REDUCED_COLOR_2,
    0.25: cv2.IMREAD_REDUCED_COLOR_4,
    0.12: cv2.IMREAD_REDUCED_COLOR_8,
    0.01: cv2.IMREAD_REDUCED_COLOR_8,
}


@pytest.mark.parametrize("factor", FLAGS)
def test_the_smallest_fraction_that_need_not_be_enlarged(tmp_path, monkeypatch, factor):
    flags, decode = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *given: flags.append(given[1]) or decode(*given))
    path = written(tmp_path / "a.jpg", jpeg(SMOOTH[:300, :400]))
    load = LoadCheckedImage(shrink_on_load=dict(type="Resize", scale_factor=factor))
    load(dict(img_path=str(path)))
    assert flags == [FLAGS[factor]]


def turned_as_only_pillow_sees() -> bytes:
    """An orientation of 32 bits, of which OpenCV reads the upper 16."""
    entry = b"\x01\x12\x00\x04" + b"\x00\x00\x00\x01" + b"\x00\x00\x00\x06"
    tags = b"MM\x00\x2a" + b"\x00\x00\x00\x08" + b"\x00\x01" + entry + b"\x00" * 4
    return jpeg(SMOOTH, exif=b"Exif\x00\x00" + tags)


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation(tmp_path, turn):
    shrunk, full = both(written(tmp_path / "a", jpeg(SMOOTH, exif=exif(turn))), WITHIN)
    assert shrunk["ori_shape"] == ((WIDE, HIGH) if turn > 4 else (HIGH, WIDE))
    assert distance(shrunk["img"], full["img"])[1] < 5


def test_an_orientation_that_only_pillow_sees(tmp_path):
    path = written(tmp_path / "a", turned_as_only_pillow_sees())
    result = LoadCheckedImage(shrink_on_load=WITHIN)(dict(img_path=str(path)))
    upright = cv2.resize(np.rot90(SMOOTH[..., ::-1], -1), result["img"].shape[1::-1])
    assert result["ori_shape"] == (WIDE, HIGH)
    assert distance(result["img"], upright)[1] < 5


IN_FULL = {
    "PNG": saved(SMOOTH),
    "TIFF": saved(SMOOTH, "TIFF"),
    "CMYK": saved(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG"),
    "XMP": jpeg(SMOOTH, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"),
}


@pytest.mark.parametrize("name", IN_FULL)
def test_other_files_have_the_bytes_of_both_steps(tmp_path, name):
    shrunk, full = both(written(tmp_path / "a", IN_FULL[name]), WITHIN)
    np.testing.assert_array_equal(shrunk.pop("img"), full.pop("img"))
    assert shrunk == full


def test_damage_and_the_limit_of_sizes(tmp_path):
    load = LoadCheckedImage(shrink_on_load=WITHIN)
    content = jpeg(DRAWN)
    half = content[: len(content) // 2]
    for damaged in (half, half + b"\xff\xd9"):
        with pytest.raises(DamagedFile, match=r"a\.jpg: damaged image"):
            load(dict(img_path=str(written(tmp_path / "a.jpg", damaged))))

    def refuse(path: Any, size: tuple[int, int]) -> None:
        raise UserError(f"{size}")

    load.check_size = refuse
    with pytest.raises(UserError, match=str((WIDE, HIGH))):
        load(dict(img_path=str(written(tmp_path / "a.jpg", content))))


LOAD_LABEL = dict(type="LoadCheckedLabel", num_classes=CLASSES)


def test_labels_and_random_numbers_in_training(tmp_path):
    image = written(tmp_path / "a.jpg", jpeg(SMOOTH))
    label = str(written(tmp_path / "a.png", saved(LABEL)))
    resize = dict(type="RandomResize", scale=(300, 100), ratio_range=(0.5, 2.0), keep_ratio=True)
    for seed in range(20):
        shrunk, full = both(image, resize, (LOAD_LABEL,), seed, seg_map_path=label)
        assert distance(shrunk.pop("img"), full.pop("img"))[1] < 5
        np.testing.assert_array_equal(shrunk.pop("gt_seg_map"), full.pop("gt_seg_map"))
        assert shrunk == full
    written(tmp_path / "a.png", saved(LABEL[1:]))
    with pytest.raises(UserError, match=r"a\.jpg: image of 403x301 for a label of 403x300"):
        both(image, resize, (LOAD_LABEL,), seg_map_path=label)


def test_prediction_shows_the_whole_picture(tmp_path):
    path = written(tmp_path / "a.jpg", jpeg(SMOOTH))
    load, pack = dict(type="LoadImageFromFile", _scope_="fcn_plugin"), dict(type="PackSegInputs")
    pictures = [
        Reader(pipeline_of(dict(pipeline=steps)))(path)
        for steps in ([dict(load, shrink_on_load=WITHIN), pack], [load, WITHIN, pack])
    ]
    for picture in pictures:
        assert picture.image.shape == (HIGH, WIDE, 3)
        np.testing.assert_array_equal(picture.inputs[0], pictures[1].inputs[0])
