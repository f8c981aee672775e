"""A user's own pictures are seen at their own scale, new ones at that of the training pictures."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from prepare.test_own import SIZE, image, masks

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import receptive_field
from fcn_plugin.prediction.reading import Reader
from fcn_plugin.prepare.own.configs import FIELD, LARGE
from fcn_plugin.prepare.own.dataset import prepare_own
from fcn_plugin.prepare.own.source import Tell

BIG = (1300, 1200)
assert BIG[0] * BIG[1] > LARGE


def prepared(tmp_path, sizes=(SIZE, SIZE), **options):
    """The config of a network from nothing, the lines printed, and what was told."""
    for number, size in enumerate(sizes):
        label = np.zeros(size, np.uint8)
        label[: size[0] // 2] = 1
        masks(tmp_path / "in", label, [str(number)])
    (tmp_path / "in/classes.txt").write_text("background\ncat\n")
    told: list[str] = []
    lines = prepare_own(tmp_path / "in", tmp_path / "out", tell=Tell(told.append), **options)
    return Config.fromfile(next((tmp_path / "out").glob("*scratch.py"))), lines, told


def shapes(dataset, times=1):
    """Of what the network is given of the first image."""
    np.random.seed(0)
    return [tuple(dataset[0]["inputs"].shape[1:]) for _ in range(times)]


@pytest.mark.parametrize("times", [1, 3, 10])
def test_a_new_picture_is_seen_at_its_own_size(tmp_path, times):
    """Such as a mosaic of pictures like those of the training."""
    cfg, lines, told = prepared(tmp_path)
    size = (SIZE[0] * times, SIZE[1] * times)
    picture = Reader(cfg.test_dataloader.dataset.pipeline)(image(tmp_path / "new.png", size))
    assert picture.inputs[0].shape[1:] == size and picture.factors == (1, 1)
    assert torch.equal(picture.inputs[0], torch.from_numpy(picture.image).permute(2, 0, 1))
    assert not told and "scale" not in "\n".join(lines)


@pytest.mark.parametrize("sizes", [(SIZE, SIZE), (SIZE, (300, 90))], ids=["one size", "several"])
def test_a_chosen_factor_holds_in_training_and_after(tmp_path, sizes):
    cfg, lines, _ = prepared(tmp_path, sizes, scale=0.5, val=0.5)
    assert cfg.scale == 0.5 and any("at 0.5 of their size" in line for line in lines)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        dataset = DATASETS.build(dict(loader.dataset, pipeline=cfg.test_pipeline))
        height, width = dataset[0]["data_samples"].ori_shape
        assert shapes(dataset) == [(int(height / 2 + 0.5), int(width / 2 + 0.5))]
    loose = [
        dict(step, crop_size=(9999, 9999)) if "crop_size" in step else step
        for step in cfg.train_pipeline
    ]
    train = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=loose))
    height, width = train[0]["data_samples"].ori_shape
    seen = {rows / height for rows, _ in shapes(train, 60)}
    assert min(seen) == pytest.approx(0.25, abs=0.02) and max(seen) == pytest.approx(1, abs=0.02)
    picture = Reader(cfg.tta_pipeline)(image(tmp_path / "new.png", (200, 100)))
    factors = {rows.shape[-2] / 200 for rows in picture.inputs}
    assert factors == {0.25, 0.375, 0.5, 0.625, 0.75, 0.875}


def test_another_factor_is_another_data_set(tmp_path):
    prepared(tmp_path)
    with pytest.raises(UserError, match="was made of other files or options"):
        prepared(tmp_path, scale=0.5)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), 100, 0.02])
def test_factors_that_will_not_do(tmp_path, scale):
    with pytest.raises(UserError, match=r"--scale [\w.-]+: "):
        prepared(tmp_path, scale=scale)
    assert not (tmp_path / "out").exists()


def test_large_pictures_are_cut_before_they_are_resized_and_predicted_in_windows(tmp_path):
    cfg, _, told = prepared(tmp_path, [BIG, BIG])
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert shapes(train, 3) == [(512, 512)] * 3
    steps = [step for step in train.pipeline.transforms if type(step).__name__ == "FastRandomCrop"]
    assert [step.crop_size for step in steps] == [(1024, 1024), (512, 512)]
    cfg.model.backbone.update(base_channels=2, fc_channels=4)
    cfg.model.decode_head.in_channels = (8, 16, 4)
    model = MODELS.build(cfg.model).eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:]))
    val = DATASETS.build(cfg.val_dataloader.dataset)[0]
    with torch.no_grad():
        (found,) = model.test_step({key: [value] for key, value in val.items()})
    assert found.pred_sem_seg.shape == BIG and found.seg_logits.shape == BIG
    assert set(seen) == {(1024, 1024)} and len(seen) == 4
    assert not told


def test_at_a_smaller_scale_large_pictures_go_as_a_whole(tmp_path):
    cfg, _, _ = prepared(tmp_path, [BIG, BIG], scale=0.5)
    assert cfg.model.test_cfg.mode == "whole"
    assert shapes(DATASETS.build(cfg.val_dataloader.dataset)) == [(650, 600)]
    seen = shapes(DATASETS.build(cfg.train_dataloader.dataset), 20)
    assert {rows for rows, _ in seen} == {325, 488, 512}  # smaller than a crop at 0.25 and 0.375


def test_of_long_pictures_a_scale_is_advised(tmp_path):
    _, _, told = prepared(tmp_path, [(40, 4096), (40, 4096)])
    assert told == [
        f"{tmp_path / 'out'}: the network sees 404 pixels at once, of images 4,096 pixels long; if "
        "that shows it too little, prepare them with --scale 0.25"
    ]
    small = tmp_path / "small"
    _, _, told = prepared(small, [(40, 4096), (40, 4096)], scale=0.25)
    assert not told


def test_what_the_network_sees_at_once():
    backbone = MODELS.build(dict(type="ConvolutionalizedVGG", depth=16, base_channels=2))
    assert receptive_field(layer for layers in backbone.layers for layer in layers) == FIELD
