"""What was built and cannot run is refused before the first iteration, whatever runs it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS
from tools.running import config
from torch import nn
from torch.utils.data import DataLoader

from fcn_plugin.checks import DataCheckHook
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES, PALETTE
from fcn_plugin.prepare.shapes import write_shapes


@pytest.fixture
def root(tmp_path) -> Path:
    write_shapes(tmp_path / "shapes", train=3, val=2, size=32)
    return tmp_path / "shapes"


def plain(root: Path, split: str, **settings) -> dict:
    return (
        dict(
            type="BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
            ann_file=f"ImageSets/Segmentation/{split}.txt",
            metainfo=dict(classes=CLASSES, palette=PALETTE),
            pipeline=[],
        )
        | settings
    )


def wrapped(root: Path) -> dict:
    both = dict(type="ConcatDataset", datasets=[plain(root, "train"), plain(root, "val")])
    return dict(type="RepeatDataset", times=2, dataset=both)


def loop(dataset: dict) -> SimpleNamespace:
    """What the hook sees of a loop."""
    return SimpleNamespace(
        dataloader=DataLoader(DATASETS.build(dataset)), evaluator=SimpleNamespace(metrics=[])
    )


def before_test(dataset: dict, num_classes: int = 5) -> None:
    model = nn.Module()
    model.decode_head = SimpleNamespace(num_classes=num_classes)
    DataCheckHook().before_test(SimpleNamespace(model=model, cfg={}, test_loop=loop(dataset)))


def before_train(
    train: dict, val: dict, size: tuple | None = None, cfg: dict | None = None
) -> list[str]:
    """The warnings; ``size`` is what crops are padded to."""
    model = nn.Module()
    model.data_preprocessor = SimpleNamespace(size=size)
    model.decode_head = SimpleNamespace(num_classes=len(CLASSES))
    said: list[str] = []
    runner = SimpleNamespace(
        model=model,
        cfg=cfg or {},
        hooks=[],
        train_loop=loop(train),
        train_dataloader=DataLoader(DATASETS.build(train), batch_size=2),
        val_loop=loop(val),
        logger=SimpleNamespace(warning=said.append),
    )
    DataCheckHook().before_train(runner)
    return said


def test_sound_data_sets_pass(root):
    """Wrapped ones, and one without labels."""
    before_test(wrapped(root))
    before_test(plain(root, "val", test_mode=True, data_prefix=dict(img_path="JPEGImages")))


def test_files_missing_inside_wrappers(root):
    (root / "SegmentationClass" / "val_00001.png").unlink()
    with pytest.raises(UserError, match=r"val_00001.png: no such label, though .*jpg is there"):
        before_test(wrapped(root))
    (root / "JPEGImages" / "train_00000.jpg").unlink()
    with pytest.raises(UserError, match=r"train_00000.jpg: no such image"):
        before_test(wrapped(root))


def test_classes_of_every_part_are_compared(root):
    with pytest.raises(UserError, match=r"has 5 classes.*scores 21.*num_classes=5"):
        before_test(wrapped(root), num_classes=21)


@pytest.mark.parametrize(
    ("loads", "ignored", "warns"),
    [("LoadAnnotations", 254, 1), ("LoadAnnotations", 255, 0), ("LoadCheckedLabel", 254, 0)],
)
def test_labels_in_which_mmsegs_loader_leaves_255(root, loads, ignored, warns):
    step = dict(type=loads)
    if loads == "LoadCheckedLabel":
        step |= dict(num_classes=len(CLASSES), ignore_index=ignored)
    data = plain(root, "train", pipeline=[dict(type="LoadCheckedImage"), step])
    head = dict(type="FCNHead", ignore_index=ignored)
    cfg = dict(model=dict(decode_head=head), train_dataloader=dict(dataset=data))
    said = before_train(data, plain(root, "val"), cfg=cfg)
    assert len(said) == warns
    assert all("ignore_index=254" in text and "LoadCheckedLabel" in text for text in said)


def test_images_that_are_trained_on_and_scored_are_warned_of(root, tmp_path):
    """PASCAL's are told by name: SBD and the years of VOC each have a copy."""
    assert before_train(plain(root, "train"), plain(root, "val")) == []
    (said,) = before_train(wrapped(root), plain(root, "val"))
    assert said.startswith("2 images are both trained on and validated with") and "val_0" in said
    shutil.copytree(root, tmp_path / "other")
    assert before_train(plain(root, "val"), plain(tmp_path / "other", "val")) == []
    five = dict(classes=PascalVOCDataset.METAINFO["classes"][:5])
    voc = dict(type="PascalVOCDataset", metainfo=five)
    train, val = (plain(folder, "val") | voc for folder in (root, tmp_path / "other"))
    (said,) = before_train(train, val)
    assert said.startswith("2 images") and "val_00000" in said


@pytest.mark.parametrize(("size", "warns"), [((32, 32), 1), ((64, 64), 0)])
def test_crops_that_are_larger_than_what_they_are_padded_to(root, size, warns):
    data = plain(root, "train", pipeline=[dict(type="FastRandomCrop", crop_size=(48, 48))])
    said = before_train(data, plain(root, "val"), size)
    assert len(said) == warns
    assert all("model.data_preprocessor.size=(32, 32)" in text for text in said)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("model['decode_head'].update(ignore_index=254)", "data_preprocessor.seg_pad_val=254"),
        (
            "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)",
            "train_dataloader.sampler",
        ),
        ("default_hooks = dict(checkpoint=dict(save_best='mDice'))", "save_best='mDice'"),
    ],
)
def test_by_any_runner(root, tmp_path, monkeypatch, extra, message):
    """mmseg's own tool builds nothing but this."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    root.rename(tmp_path / "data/shapes")
    cfg = Config.fromfile(config(tmp_path, extra))
    cfg.work_dir = str(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        Runner.from_cfg(cfg).train()
