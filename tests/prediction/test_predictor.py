"""Predictions from Python: alone and in batches, by us and by mmseg's inferencer."""

import os
import re

import numpy as np
import pytest
from mmengine.config import Config
from mmseg.apis import MMSegInferencer
from PIL import Image
from prediction.trained import CLASSES, image, trained

from fcn_plugin.data.display import Shown
from fcn_plugin.errors import UserError
from fcn_plugin.prediction import Prediction, Predictor
from fcn_plugin.prediction.network import Classes

SIZES = [(40, 56), (33, 71), (40, 56), (1, 9)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config, a checkpoint and images of several sizes."""
    folder = tmp_path_factory.mktemp("predictor")
    trained(folder, dataset_meta=dict(classes=CLASSES, palette=[[9 * i] * 3 for i in range(5)]))
    for number, size in enumerate(SIZES):
        image(folder / f"{number}.png", *size, seed=number)
    return folder


@pytest.fixture(scope="module")
def predictor(folder):
    return Predictor(folder / "tiny.py", folder / "weights.pth", "cpu")


def test_files_pillows_pictures_and_bgr_arrays_are_one(folder, predictor):
    picture = Image.open(folder / "1.png")
    array = np.asarray(picture)
    expected = predictor(folder / "1.png")
    assert expected.labels.shape == (33, 71) and expected.labels.dtype == np.uint8
    assert len(np.unique(expected.labels)) > 1 and expected.counts().sum() == 33 * 71
    assert expected.classes.names == CLASSES and expected.classes.palette[2] == (18, 18, 18)
    assert np.array_equal(expected.image, array)
    assert np.array_equal(predictor(picture).labels, expected.labels)
    assert np.array_equal(predictor(array[..., ::-1]).labels, expected.labels)
    assert not np.array_equal(predictor(array).labels, expected.labels)


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
RGB = Image.fromarray(PIXELS.repeat(8, 0).repeat(8, 1))
TURNED = Image.Exif()
TURNED[0x0112] = 6
# Kinds of pictures that a plain conversion to RGB would show otherwise than they are.
PICTURES = {
    "rgb.jpg": (RGB, dict(quality=90)),
    "turned.png": (RGB, dict(exif=TURNED)),
    "16-bit.png": (Image.fromarray(np.asarray(RGB.convert("L")).astype(np.uint16) * 257), {}),
    "transparent.png": (RGB.quantize(200), dict(transparency=bytes(range(200)))),
    "cmyk.jpg": (RGB.convert("CMYK"), {}),
}


@pytest.mark.parametrize("name", PICTURES)
def test_an_opened_picture_is_as_its_file(predictor, tmp_path, name):
    picture, options = PICTURES[name]
    picture.save(tmp_path / name, **options)
    expected = predictor(tmp_path / name)
    with Image.open(tmp_path / name) as opened:
        found = predictor(opened)
        assert np.array_equal(found.image, expected.image)
        assert np.array_equal(found.labels, expected.labels)
        smaller = predictor(opened.resize((20, 30))).image  # and not the file's content
        opened.load()  # then by Pillow, whose JPEGs are a rounding apart
        decoded = predictor(opened).image.astype(int)
    assert np.abs(decoded - expected.image).max() <= (2 if name.endswith("jpg") else 0)
    assert sorted(smaller.shape) == [3, 20, 30]


def test_the_page_that_was_chosen(predictor, tmp_path):
    blue = Image.new("RGB", (16, 16), "blue")
    RGB.save(tmp_path / "a.tif", save_all=True, append_images=[blue])
    with Image.open(tmp_path / "a.tif") as opened:
        opened.seek(1)
        assert np.array_equal(predictor(opened).image, np.asarray(blue))


def test_what_is_no_picture_is_refused(predictor, tmp_path):
    RGB.save(tmp_path / "a.png")
    os.truncate(tmp_path / "a.png", 300)
    os.mkfifo(tmp_path / "b.png")  # not waited for
    for given, message in (
        (Image.open(tmp_path / "a.png"), r"a\.png: damaged image"),
        (Image.new("F", (5, 4)), "a picture of numbers beyond 16 bits"),
        (tmp_path / "b.png", r"b\.png: a pipe, device or socket; save the image"),
        *[(wrong, "give H x W x 3, uint8, in BGR") for wrong in (PIXELS[..., 0], PIXELS / 255)],
    ):
        with pytest.raises(UserError, match=message):
            predictor(given)


def test_a_batch_is_as_one_by_one_with_probabilities_in_memory_or_a_file(
    folder, predictor, tmp_path
):
    file, names = tmp_path / "new" / "1.npy", (0, 2, 2)
    pictures = [predictor.read(folder / f"{name}.png") for name in names]
    results = predictor.predict(pictures, [file, False, True], confidence=True)
    for name, result in zip(names, results, strict=True):
        assert np.array_equal(result.labels, predictor(folder / f"{name}.png").labels)
    stored = np.load(file, mmap_mode="r")
    for result, found in zip(results, (stored, None, results[2].probabilities), strict=True):
        if found is None:
            assert result.probabilities is None
            continue
        assert found.shape == (5, 40, 56) and found.dtype == np.float16
        np.testing.assert_allclose(found.astype(float).sum(0), 1, atol=3e-3)
        picked = np.take_along_axis(found, result.labels[None].astype(np.int64), 0)[0]
        assert np.array_equal(picked, found.max(0))
        np.testing.assert_allclose(result.confidence, 255 * picked.astype(float), atol=0.7)


def test_mmsegs_inferencer_gives_the_same(folder, predictor):
    host = MMSegInferencer(str(folder / "tiny.py"), str(folder / "weights.pth"), device="cpu")
    files = [str(folder / f"{number}.png") for number in range(len(SIZES))]
    for file, labels in zip(files, host(files, show=False)["predictions"], strict=True):
        assert np.array_equal(labels, predictor(file).labels)


def test_windows_by_a_limit(folder, predictor, monkeypatch):
    """Where memory is left for less than the image, windows of that much give the same."""
    large = image(folder / "large.png", 1100, 1100)
    expected = predictor(large)
    assert expected.windows == 1
    left = predictor.budget.cost(scored=False).bytes(1060, 1060)
    monkeypatch.setattr(predictor.budget, "left", lambda held=0: left)
    result = predictor(large)
    assert result.windows == 4
    assert (result.labels != expected.labels).sum() < 10  # float32: a rounding decides
    assert predictor(image(folder / "narrow.png", 3, 30000)).windows == 1


def test_a_refusal_names_the_memory_that_would_do(folder, predictor, monkeypatch):
    """First of the file, before it is decoded; of an array, before it is predicted."""
    large = image(folder / "large.png", 2100, 2100)
    array = np.asarray(Image.open(large))
    used = 500 * 2**20
    monkeypatch.setattr("fcn_plugin.system.memory.resident", lambda: used)
    monkeypatch.setattr("fcn_plugin.system.memory.peak_resident", lambda: used)
    monkeypatch.setattr("fcn_plugin.system.memory.free_memory", lambda: 2**40)
    for given, name in ((large, r"large\.png"), (array, "the image")):
        monkeypatch.setattr(predictor.budget, "limit", used + 2**20)
        with pytest.raises(UserError, match=rf"{name}: a picture of 2100x2100 .* needs") as told:
            predictor(given)
        assert "damaged" not in str(told.value)
        would_do = int(re.search(r"--max-memory (\d+)MB", str(told.value))[1]) * 10**6
        monkeypatch.setattr(predictor.budget, "limit", would_do)
        assert predictor(given).labels.shape == (2100, 2100)


def test_test_time_augmentation(folder):
    tta = Predictor(folder / "tiny.py", folder / "weights.pth", "cpu", tta=True)
    result = tta(folder / "0.png")
    assert result.labels.shape == (40, 56)
    mirrored = Image.open(folder / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert np.array_equal(tta(mirrored).labels, result.labels[:, ::-1])
    with pytest.raises(UserError, match="keeps no scores"):
        tta(folder / "0.png", probabilities=True)


ADE = """
pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 48), keep_ratio=True),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
test_dataloader["dataset"] = dict(_delete_=True, type="ADE20KDataset", pipeline=pipeline)
model["decode_head"].update(num_classes=150)
"""


def test_the_data_sets_own_numbers_from_the_config_alone(tmp_path):
    """ADE20K, whose files are not there: the checkpoint has no classes, and 0 is "other"."""
    config, weights = trained(tmp_path, ADE)
    result = Predictor(config, weights, "cpu")(image(tmp_path / "a.png", 100, 90))
    assert result.labels.shape == (100, 90) and result.labels.min() >= 1
    assert result.classes.names[:2] == ("wall", "building")
    assert result.classes.numbers == tuple(range(1, 151))


def test_names_colours_and_counts_belong_to_the_classes(tmp_path):
    """Whatever their numbers are: car is 2, sky is 0."""
    red, green = (200, 0, 0), (0, 200, 0)
    classes = Classes(("car", "sky"), (red, green), label_map=((0, 1), (1, 255), (2, 0)))
    black = Shown(np.zeros((3, 4, 3), np.uint8))
    result = Prediction.empty(black, classes, probabilities=False)
    result.labels[:] = [[0] * 4, [1] * 4, [1] * 4]
    result = result.numbered()
    assert result.labels.tolist() == [[2] * 4, [0] * 4, [0] * 4]
    assert result.classes.numbers == (2, 0) and result.counts().tolist() == [4, 8]
    result.save_labels(tmp_path / "a.png")
    written = Image.open(tmp_path / "a.png")
    assert np.array_equal(np.asarray(written), result.labels)
    palette = np.reshape(written.getpalette(), (-1, 3))
    assert palette[[2, 0]].tolist() == [list(red), list(green)]
    assert result.overlay().getpixel((10, 10)) == (100, 0, 0)


def test_the_numbers_are_those_of_the_configs_data_set(tmp_path):
    """Whatever the checkpoint was trained on, and its colours if they are the same ones."""
    names = ("star", "circle", "square", "triangle", "background")
    meta = dict(classes=names, palette=[[i] * 3 for i in range(5)], reduce_zero_label=True)
    config, weights = trained(tmp_path, dataset_meta=meta)
    cfg = Config.fromfile(config)
    cfg.test_dataloader.dataset.metainfo = dict(classes=names)
    assert Predictor(cfg, weights, "cpu").classes.numbers == (0, 1, 2, 3, 4)
    del cfg.test_dataloader.dataset["metainfo"]
    found = Predictor(cfg, weights, "cpu").classes
    assert found.numbers == (1, 2, 3, 4, 5) and found.palette[4] == (4, 4, 4)
    # mmseg stores the same colours in another order than that of the classes.
    colours = meta["palette"][::-1]
    cfg.test_dataloader.dataset.metainfo = dict(classes=names, palette=colours)
    found = Predictor(cfg, weights, "cpu").classes
    assert [*map(list, found.palette)] == colours


NAMELESS = """test_dataloader['dataset'] = dict(_delete_=True, type='BaseSegDataset',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')])"""
WIDE = "model['backbone']['fc_channels'], model['decode_head']['in_channels'] = 9, (8, 16, 9)"


def test_a_config_that_contradicts_the_checkpoint_is_refused(tmp_path, folder):
    for extra, meta, message in (
        ("", dict(padding="reference"), r"weights\.pth: .*padding is reference, the config's"),
        ("", dict(dataset_meta=dict(classes=("a", "b"))), "2 class names, the network 5"),
        (NAMELESS, {}, "names the classes; set metainfo"),
    ):
        with pytest.raises(UserError, match=message):
            Predictor(*trained(tmp_path, extra, **meta), "cpu")
    tiny, wide = folder / "tiny.py", trained(tmp_path, WIDE)[0]
    for config, device, limit, message in (
        (wide, "cpu", None, "the checkpoint does not fit the config"),
        (tiny, "nonsense", None, "--device nonsense: .*; give cpu, cuda or cuda:1"),
        (tiny, "cpu", 10**7, r"weights\.pth: the network needs .* give --max-memory"),
    ):
        with pytest.raises(UserError, match=message):
            Predictor(config, folder / "weights.pth", device, limit)
