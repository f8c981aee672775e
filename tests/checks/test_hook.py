"""What was built and cannot run is refused before the first iteration, whatever runs it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from checks.data_sets import plain, wrapped
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS
from tools.running import config
from torch import nn
from torch.utils.data import DataLoader

from fcn_plugin.checks import DataCheckHook
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES
from fcn_plugin.prepare.shapes import write_shapes


@pytest.fixture
def root(tmp_path) -> Path:
    write_shapes(tmp_path / "data/shapes", train=3, val=2, size=32)
    return tmp_path / "data/shapes"


def both(root: Path) -> dict:
    return wrapped(plain(root, "train"), plain(root, "val"))


def before_train(train: dict, val: dict) -> list[str]:
    """The warnings."""
    said: list[str] = []
    model = nn.Module()
    model.decode_head = SimpleNamespace(num_classes=len(CLASSES))
    evaluator = SimpleNamespace(metrics=[])
    loader = DataLoader(DATASETS.build(val))
    runner = SimpleNamespace(
        model=model,
        cfg={},
        hooks=[],
        train_loop=None,
        train_dataloader=DataLoader(DATASETS.build(train), batch_size=2),
        val_loop=SimpleNamespace(dataloader=loader, evaluator=evaluator),
        logger=SimpleNamespace(warning=said.append),
    )
    DataCheckHook().before_train(runner)
    return said


def test_every_part_of_wrapped_data_sets_is_looked_at(root):
    train, blind = plain(root, "train"), dict(img_path="JPEGImages")
    before_train(train, plain(root, "val", test_mode=True, data_prefix=blind))
    (root / "SegmentationClass" / "val_00001.png").unlink()
    with pytest.raises(UserError, match=r"val_00001.png: no such label, though .*jpg is there"):
        before_train(train, both(root))
    (root / "JPEGImages" / "train_00000.jpg").unlink()
    with pytest.raises(UserError, match=r"train_00000.jpg: no such image"):
        before_train(train, both(root))


def test_images_that_are_trained_on_and_scored_are_warned_of(root, tmp_path):
    """PASCAL's are told by name: SBD and the years of VOC each have a copy."""
    assert before_train(plain(root, "train"), plain(root, "val")) == []
    (said,) = before_train(both(root), plain(root, "val"))
    assert said.startswith("2 images are both trained on and validated with") and "val_0" in said
    shutil.copytree(root, tmp_path / "other")
    sets = plain(root, "val"), plain(tmp_path / "other", "val")
    assert before_train(*sets) == []
    five = dict(classes=PascalVOCDataset.METAINFO["classes"][:5])
    (said,) = before_train(*(each | dict(type="PascalVOCDataset", metainfo=five) for each in sets))
    assert said.startswith("2 images") and "val_00000" in said


def test_by_any_runner(root, tmp_path, monkeypatch):
    """mmseg's own tool builds nothing but this."""
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile(config(tmp_path, "model['decode_head'].update(ignore_index=254)"))
    cfg.work_dir = str(tmp_path / "run")
    with pytest.raises(UserError, match=r"data_preprocessor\.seg_pad_val=254"):
        Runner.from_cfg(cfg).train()
