"""Predictions from Python: alone and in batches, by us and by the host's inferencer."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import MMSegInferencer
from mmseg.registry import MODELS
from PIL import Image
from prediction.trained import CLASSES, image, trained

from fcn_plugin.data.camvid import CLASSES as CAMVID
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.pictures import LARGEST, overlay
from fcn_plugin.prediction import Prediction, Predictor
from fcn_plugin.prediction.memory import HIDDEN
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


def test_five_lines(folder, predictor):
    prediction = predictor(folder / "0.png")
    assert prediction.labels.shape == (40, 56) and prediction.labels.dtype == np.uint8
    assert len(np.unique(prediction.labels)) > 1
    assert prediction.classes.names == CLASSES
    assert prediction.classes.palette[2] == (18, 18, 18)
    assert np.array_equal(prediction.image, np.asarray(Image.open(folder / "0.png")))
    prediction.overlay().save(folder / "overlay.png")
    assert prediction.counts().sum() == 40 * 56


def test_files_pillows_pictures_and_bgr_arrays_are_one(folder, predictor):
    picture = Image.open(folder / "1.png")
    array = np.asarray(picture)
    expected = predictor(folder / "1.png").labels
    assert np.array_equal(predictor(picture).labels, expected)
    assert np.array_equal(predictor(array[..., ::-1]).labels, expected)
    assert not np.array_equal(predictor(array).labels, expected)
    for wrong in (array[..., 0], array / 255, array[:0]):
        with pytest.raises(UserError, match="give H x W x 3, uint8, in BGR"):
            predictor(wrong)


def test_a_batch_is_as_one_by_one(folder, predictor):
    pictures = [predictor.read(folder / f"{n}.png") for n in (0, 2, 0)]
    together = predictor.predict(pictures, [True, False, True])
    for name, result in zip((0, 2, 0), together, strict=True):
        assert np.array_equal(result.labels, predictor(folder / f"{name}.png").labels)
    assert together[1].probabilities is None
    alone = predictor(folder / "0.png", probabilities=True).probabilities
    np.testing.assert_allclose(together[2].probabilities, alone, atol=1e-3)  # half precision


def test_probabilities(folder, predictor, tmp_path):
    result = predictor(folder / "1.png", probabilities=tmp_path / "new" / "1.npy")
    stored = np.load(tmp_path / "new" / "1.npy", mmap_mode="r")
    assert stored.shape == (5, 33, 71) and stored.dtype == np.float16
    np.testing.assert_allclose(stored.astype(float).sum(0), 1, atol=3e-3)
    picked = np.take_along_axis(stored, result.labels[None].astype(np.int64), 0)[0]
    assert np.array_equal(picked, stored.max(0))


def test_the_hosts_inferencer_gives_the_same(folder, predictor):
    host = MMSegInferencer(str(folder / "tiny.py"), str(folder / "weights.pth"), device="cpu")
    files = [str(folder / f"{number}.png") for number in range(len(SIZES))]
    found = host(files, out_dir=str(folder / "host"), show=False)["predictions"]
    for number, (file, labels) in enumerate(zip(files, found, strict=True)):
        expected = predictor(file).labels
        assert np.array_equal(labels, expected)
        written = np.asarray(Image.open(folder / f"host/pred/{number:08}_pred.png"))
        assert np.array_equal(written, expected)
        assert (folder / f"host/vis/{number}.png").is_file()


def test_windows_by_a_limit(folder, predictor, monkeypatch):
    """Where memory is left for less than the image, windows of that much give the same."""
    large = image(folder / "large.png", 1100, 1100)
    expected = predictor(large)
    assert expected.windows == 1
    weights = max(parameter.nbytes for parameter in predictor.model.parameters())
    left = weights + int(HIDDEN * predictor._peak(256, False) * (1060 / 256) ** 2)
    monkeypatch.setattr("fcn_plugin.prediction.predictor.budget", lambda device, limit: left)
    told = []
    monkeypatch.setattr(predictor, "progress", lambda done, total: told.append((done, total)))
    result = predictor(large)
    assert told == [(0, 4), (1, 4), (2, 4), (3, 4)] and result.windows == 4
    assert (result.labels != expected.labels).sum() < 10  # float32: a rounding decides
    monkeypatch.setattr("fcn_plugin.prediction.predictor.budget", lambda device, limit: 0)
    with pytest.raises(UserError, match=r"large\.png: memory is left for windows of 0 pixels"):
        predictor(large)


def test_test_time_augmentation(folder):
    tta = Predictor(folder / "tiny.py", folder / "weights.pth", "cpu", tta=True)
    result = tta(folder / "0.png")
    assert result.labels.shape == (40, 56)
    mirrored = Image.open(folder / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert np.array_equal(tta(mirrored).labels, result.labels[:, ::-1])
    with pytest.raises(UserError, match="keeps no scores"):
        tta(folder / "0.png", probabilities=True)


ADE = """
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 48), keep_ratio=True),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
test_dataloader = dict(
    dataset=dict(_delete_=True, type="ADE20KDataset", pipeline=test_pipeline)
)
model["decode_head"].update(num_classes=150)
"""


def test_the_data_sets_own_numbers_from_the_config_alone(tmp_path):
    """ADE20K, whose files are not there: the checkpoint has no classes, and 0 is "other"."""
    config, weights = trained(tmp_path, ADE)
    result = Predictor(config, weights, "cpu")(image(tmp_path / "a.png", 100, 90))
    assert result.labels.shape == (100, 90)
    assert result.classes.names[:2] == ("wall", "building")
    assert result.classes.numbers == tuple(range(1, 151))
    result.save_labels(tmp_path / "labels.png")
    written = Image.open(tmp_path / "labels.png")
    assert np.array_equal(np.asarray(written), result.labels) and result.labels.min() >= 1
    assert tuple(written.getpalette()[3:6]) == result.classes.palette[0]


def test_classes_in_another_order_than_their_numbers(tmp_path):
    """Names, colours and counts belong to the numbers that labels have."""
    palette = ((200, 0, 0), (0, 200, 0))
    classes = Classes(("car", "sky"), palette, label_map=((0, 1), (1, 255), (2, 0)))
    assert classes.numbers == (2, 0)
    result = Prediction.empty(np.zeros((3, 4, 3), np.uint8), classes, probabilities=False)
    result.labels[:] = 1
    result.labels[0] = 0
    assert result.numbered().labels.tolist() == [[2] * 4, [0] * 4, [0] * 4]
    assert result.counts().tolist() == [4, 8]
    assert np.asarray(result.overlay())[10, 10].tolist() == [100, 0, 0]
    result.save_labels(tmp_path / "a.png")
    written = Image.open(tmp_path / "a.png")
    assert np.array_equal(np.asarray(written), result.labels)
    assert written.getpalette()[:9] == [0, 200, 0, 0, 0, 0, 200, 0, 0]


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
    stale = dict(classes=[*CAMVID][::-1], palette=[*CAMVID.values()], label_map=None)
    cfg.model.decode_head.num_classes = len(CAMVID)
    cfg.test_dataloader.dataset = dict(
        type="CamVidDataset",
        metainfo=dict(classes=[*CAMVID][::-1]),
        pipeline=cfg.test_dataloader.dataset.pipeline,
    )
    torch.save(
        dict(meta=dict(dataset_meta=stale), state_dict=MODELS.build(cfg.model).state_dict()),
        weights,
    )
    found = Predictor(cfg, weights, "cpu").classes
    assert found.numbers == tuple(range(11))[::-1]
    assert [list(colour) for colour in found.palette] == [*CAMVID.values()][::-1]


def test_more_classes_than_a_palette_has(tmp_path):
    classes = Classes(tuple(map(str, range(300))), ((1, 2, 3),) * 300)
    result = Prediction.empty(np.zeros((1, 2, 3), np.uint8), classes, probabilities=False)
    result.labels[:] = [[0, 299]]
    result.save_labels(tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 299]]
    assert result.counts()[[0, 299]].tolist() == [1, 1]
    assert result.overlay().width >= 2


@pytest.mark.parametrize(
    ("extra", "meta", "message"),
    [
        ("", dict(padding="reference"), "padding is reference, the config's is same"),
        ("", dict(dataset_meta=dict(classes=("a", "b"))), "has 2 class names, the network 5"),
        ("", dict(dataset_meta=dict(classes=CLASSES[::-1])), "in another order"),
        ("del _base_.test_dataloader.dataset.metainfo", {}, "names the classes; set metainfo"),
    ],
    ids=["padding", "number of classes", "order of classes", "no classes"],
)
def test_what_does_not_fit_is_refused(tmp_path, extra, meta, message):
    if extra:
        extra = (
            "test_dataloader['dataset'] = dict(_delete_=True, type='BaseSegDataset',"
            " pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')])"
        )
    config, weights = trained(tmp_path, extra, **meta)
    with pytest.raises(UserError, match=message):
        Predictor(config, weights, "cpu")


def test_weights_of_another_network_are_refused(tmp_path, folder):
    config, _ = trained(
        tmp_path,
        'model["backbone"].update(fc_channels=9)\n'
        'model["decode_head"].update(in_channels=(8, 16, 9))',
    )
    with pytest.raises(UserError, match="the checkpoint does not fit the config"):
        Predictor(config, folder / "weights.pth", "cpu")
    with pytest.raises(UserError, match=r"--device nonsense: .*; give cpu, cuda or cuda:1"):
        Predictor(config, folder / "weights.pth", "nonsense")


def test_overlays():
    """Outlines in the classes' own colours, small pictures enlarged, large ones reduced."""
    palette = [[0, 0, 0], [200, 0, 0]]
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 1
    grey = np.full((40, 60, 3), 100, np.uint8)
    made = overlay(grey, label, ("background", "circle"), palette)
    assert made.width == 240 and made.height > 160
    pixels = np.asarray(made)
    assert pixels[80, 10].tolist() == [50, 50, 50] and pixels[80, 230].tolist() == [150, 50, 50]
    assert pixels[80, 119].tolist() == [0, 0, 0] and pixels[80, 120].tolist() == [200, 0, 0]
    large = overlay(np.zeros((30, 4000, 3), np.uint8), np.zeros((30, 4000), np.uint8), "b", palette)
    assert large.width == LARGEST
    assert overlay(grey[:1, :1], label[:1, :1], "b", palette).width == 240


def test_a_broken_network_is_not_hidden(folder, predictor):
    """Numbers that are none are the network's, and labels still are classes."""
    with torch.no_grad():
        kept = predictor.model.decode_head.score[0].bias.clone()
        predictor.model.decode_head.score[0].bias.fill_(float("nan"))
        labels = predictor(folder / "0.png").labels
        predictor.model.decode_head.score[0].bias.copy_(kept)
    assert labels.max() < len(CLASSES)
