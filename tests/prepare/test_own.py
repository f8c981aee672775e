"""The data set of a user's own pictures: drawn splits, formats, configs; whole or not at all."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS, MODELS
from PIL import Image
from prepare.own_pictures import EYE, SIZE, Made, contents, image, masks, prepare, refusal

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import receptive_field
from fcn_plugin.prediction.reading import Reader
from fcn_plugin.prepare.own.configs import FIELD, LARGE
from fcn_plugin.system import staging

BIG = (1300, 1200)
assert BIG[0] * BIG[1] > LARGE


def test_a_split_is_drawn_and_stays_when_images_are_added(tmp_path):
    names = [f"n{number}" for number in range(20)]
    masks(tmp_path / "in", names=names)
    made = prepare(tmp_path / "in")
    train, val = made.listed("train"), made.listed("val")
    assert len(val) == 4 and sorted(train + val) == sorted(names)
    assert prepare(tmp_path / "in", "again/out").listed("val") == val
    assert prepare(tmp_path / "in", "seed", seed=1).listed("val") != val
    masks(tmp_path / "in", names=["more"])
    assert len({*prepare(tmp_path / "in", "more").listed("val")} & {*val}) >= 3


def test_images_of_several_formats_become_png_with_the_same_pixels(tmp_path):
    masks(tmp_path / "in", names="abc")
    (tmp_path / "in/images/b.jpg").unlink()
    image(tmp_path / "in/images/b.bmp")
    made = prepare(tmp_path / "in")
    assert made.notes == ["2 of 3 images are JPEG; all are PNG now"]
    assert made.images == ["a.png", "b.png", "c.png"]
    for name, source in zip(made.images, ("a.jpg", "b.bmp", "c.jpg"), strict=True):
        original = np.asarray(Image.open(tmp_path / "in/images" / source), np.int16)
        pixels = np.asarray(Image.open(made.root / "JPEGImages" / name), np.int16)
        assert np.abs(pixels - original).max() <= 3  # OpenCV and Pillow may round a JPEG's colours


def test_a_finished_tree_is_left_and_another_is_not_overwritten(tmp_path):
    masks(tmp_path / "in")
    made = prepare(tmp_path / "in")
    (made.root / "classes.txt").touch()
    before = contents(made.root)
    assert prepare(tmp_path / "in").lines == made.lines
    with pytest.raises(UserError, match="was made of other files or options than these; remove it"):
        prepare(tmp_path / "in", scale=0.5)
    with pytest.raises(UserError, match="is no data set made by this command"):
        prepare(tmp_path / "in", "in")
    assert contents(made.root) == before


def test_a_second_run_is_kept_out(tmp_path, monkeypatch):
    masks(tmp_path / "in")
    monkeypatch.setattr(staging, "LOCK_PATIENCE", 0)
    seen: list[str] = []

    def meanwhile(step: str, done: int, total: int) -> None:
        if step == "Writing images and labels":
            with pytest.raises(UserError, match="another run is still at work there"):
                prepare(tmp_path / "in")
        seen.append(step)

    prepare(tmp_path / "in", progress=meanwhile)
    assert seen[-2:] == ["Writing images and labels"] * 2


def test_options_and_folders_that_will_not_do(tmp_path):
    masks(tmp_path / "in")
    for scale in (0, float("nan"), 100, 0.02):
        refusal(tmp_path / "in", r"--scale [\w.-]+: ", scale=scale)
    for val in (0, 1):
        refusal(tmp_path / "in", r"--val [\w.]+: give a share", val=val)
    refusal(tmp_path / "none", "none: no such folder or archive")
    refusal(tmp_path / "in/classes.txt", "neither a folder nor an archive")
    refusal(tmp_path / "in", "no such file of class names", classes_file=tmp_path / "none.txt")
    with pytest.raises(UserError, match="quote or backslash in its name; choose another --root"):
        prepare(tmp_path / "in", 'a"b')


def config(made: Made) -> Config:
    """That of a network from nothing."""
    return Config.fromfile(next(made.root.glob("*scratch.py")))


def halves(folder: Path, *sizes: tuple[int, int]) -> None:
    """An image of each size, with a label of two halves."""
    for number, size in enumerate(sizes):
        label = np.zeros(size, np.uint8)
        label[: size[0] // 2] = 1
        masks(folder, label, [str(number)])


def shapes(dataset, times: int = 1) -> list[tuple[int, int]]:
    """Of what the network is given of the first image."""
    np.random.seed(0)
    return [tuple(dataset[0]["inputs"].shape[1:]) for _ in range(times)]


def narrow(cfg: Config) -> torch.nn.Module:
    cfg.model.backbone.update(base_channels=2, fc_channels=4, init_cfg=None)
    cfg.model.decode_head.in_channels = (8, 16, 4)
    return MODELS.build(cfg.model).eval()


def test_the_configs_are_whole_and_fit(tmp_path):
    masks(tmp_path / "in", 0 * EYE, classes='it\'s\n"thing"\n')
    image(tmp_path / "in/test/new.jpg")
    made = prepare(tmp_path / "in", "my data.1")
    assert Path(shlex.split(made.lines[-2])[-1]).is_file()  # as a shell takes it
    configs = sorted(made.root.glob("fcn8s*.py"))
    names = ["fcn8s_vgg16-bn_my-data-1-scratch.py", "fcn8s_vgg16_my-data-1.py"]
    assert [path.name for path in configs] == names
    for path, least in zip(configs, (400, 2000), strict=True):
        cfg = Config.fromfile(path)
        assert cfg.crop_size == cfg.model.data_preprocessor.size == (30, 32)
        assert cfg.model.decode_head.num_classes == 2
        assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == least
        tenths = cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval
        assert {*tenths, cfg.param_scheduler[0].end, cfg.param_scheduler[1].begin} == {least / 10}
        assert cfg.train.data_root == cfg.val.data_root == str(made.root)
        train = DATASETS.build(cfg.train_dataloader.dataset)
        assert train.metainfo["classes"] == ["it's", '"thing"']
        # An image that was made small by chance is smaller than a crop, and padded later.
        assert np.all(np.array(train[0]["inputs"].shape[1:]) <= SIZE)
        assert sorted(cfg.splits) == ["test", "train", "val"]
        test = cfg.test_dataloader.dataset.to_dict() | cfg.splits.test.to_dict()
        assert "gt_sem_seg" not in DATASETS.build(test | dict(test_mode=True))[0]["data_samples"]
        narrow(cfg)


def test_a_chosen_factor_holds_in_training_and_after(tmp_path):
    """Without one a new picture, such as a mosaic of those of the training, is seen as it is."""
    halves(tmp_path / "in", SIZE, (300, 90))
    made = prepare(tmp_path / "in", scale=0.5, val=0.5)
    cfg = config(made)
    assert cfg.scale == 0.5 and any("at 0.5 of their size" in line for line in made.lines)
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
    whole = config(prepare(tmp_path / "in", "whole"))
    picture = Reader(whole.test_dataloader.dataset.pipeline)(tmp_path / "new.png")
    assert picture.inputs[0].shape[1:] == (200, 100) and picture.factors == (1, 1)


def test_large_pictures_are_cut_before_they_are_resized_and_predicted_in_windows(tmp_path):
    halves(tmp_path / "in", BIG, BIG)
    made = prepare(tmp_path / "in")
    cfg = config(made)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    assert shapes(train, 3) == [(512, 512)] * 3
    steps = [step for step in train.pipeline.transforms if type(step).__name__ == "FastRandomCrop"]
    assert [step.crop_size for step in steps] == [(1024, 1024), (512, 512)]
    model, seen = narrow(cfg), []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:]))
    val = DATASETS.build(cfg.val_dataloader.dataset)[0]
    with torch.no_grad():
        (found,) = model.test_step({key: [value] for key, value in val.items()})
    assert found.pred_sem_seg.shape == BIG and found.seg_logits.shape == BIG
    assert set(seen) == {(1024, 1024)} and len(seen) == 4
    assert not made.notes
    # At a smaller scale they go as a whole.
    cfg = config(prepare(tmp_path / "in", "half", scale=0.5))
    assert cfg.model.test_cfg.mode == "whole"
    assert shapes(DATASETS.build(cfg.val_dataloader.dataset)) == [(650, 600)]


def test_of_long_pictures_a_scale_is_advised(tmp_path):
    halves(tmp_path / "in", (40, 4096), (40, 4096))
    made = prepare(tmp_path / "in")
    assert made.notes == [
        f"{made.root}: the network sees 404 pixels at once, but images are 4,096 pixels long; "
        "if it sees too little, prepare them with --scale 0.25"
    ]
    assert not prepare(tmp_path / "in", "small", scale=0.25).notes
    backbone = MODELS.build(dict(type="ConvolutionalizedVGG", depth=16, base_channels=2))
    assert receptive_field(layer for layers in backbone.layers for layer in layers) == FIELD
