"""Configs that cannot be run are refused before anything is built.

tests/tools/test_mistakes.py has most of these mistakes, as a user sees them.
"""

import resource
from pathlib import Path

import pytest
from checks.data_sets import plain, wrapped
from mmengine.config import Config
from mmseg.datasets import PascalVOCDataset

from fcn_plugin.checks import DataCheckHook
from fcn_plugin.checks.config import (
    PATIENCE,
    check_config,
    check_datasets,
    prepare_loaders,
)
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES, PALETTE
from fcn_plugin.prepare.shapes import write_shapes


def test_the_hook_is_known_by_any_way_to_name_it():
    """The last is what mmengine writes of a config of the new style."""
    path = f"{DataCheckHook.__module__}.DataCheckHook"
    named = [[], *([dict(type=name)] for name in ("mmseg.DataCheckHook", DataCheckHook, path))]
    for hooks in named:
        cfg = Config(dict(custom_hooks=hooks))
        check_config(cfg, ())
        assert len(cfg.custom_hooks) == 1


# --- data sets -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, train=1, val=1, size=32)
    (root / "empty.txt").write_text("\n")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    return root


def check(root: Path, changes: dict) -> None:
    dataset = wrapped(plain(root, "val") | changes)
    check_datasets(Config(dict(test_dataloader=dict(dataset=dataset))), ("test_dataloader",))


def test_data_sets_that_are_sound(root):
    """Classes may stand in a file; mmseg takes colours out of a set's own, or draws them."""
    check(root, dict(ann_file="", metainfo=dict(classes=str(root / "classes.txt"))))
    check(root, dict(data_root="nowhere", backend_args=dict(backend="petrel")))
    three, palette = PascalVOCDataset.METAINFO["classes"][:3], PascalVOCDataset.METAINFO["palette"]
    for colours in (dict(), dict(palette=palette), dict(palette=palette[:3]), dict(palette=[])):
        check(root, dict(type="PascalVOCDataset", metainfo=dict(colours, classes=three)))


COLOURS = dict(metainfo=dict(classes=CLASSES, palette=[*PALETTE[:4], [0, 256, 0]]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(ann_file="empty.txt"), "empty.txt: the list is empty"),
        (dict(data_prefix=dict(img_path="None")), "None: no such folder .*data_prefix.img_path"),
        (COLOURS, r"\[0, 256, 0\]"),
        (dict(dataset={}), r"this BaseSegDataset wraps others; set test_dataloader\..*\.data_root"),
    ],
)
def test_mistakes_in_data_sets(root, changes, message):
    with pytest.raises(UserError, match=message):
        check(root, changes)


# --- data loaders --------------------------------------------------------------------------------

KEYS = ("train_dataloader", "val_dataloader", "test_dataloader")


def loaders(**train) -> Config:
    loader = dict(batch_size=16, num_workers=4)
    return Config(dict(train_dataloader=loader | train, val_dataloader=dict(num_workers=0)))


def test_a_worker_is_not_waited_for_for_ever():
    for given, timeout in ({}, PATIENCE), (dict(timeout=5), 5):
        cfg = loaders(**given)
        prepare_loaders(cfg, KEYS)
        assert cfg.train_dataloader.timeout == timeout
        assert "timeout" not in cfg.val_dataloader  # which PyTorch refuses without workers


def test_open_files(monkeypatch):
    """The limit is raised as far as it may be, and too few are told of before the run."""
    limits = [64, 150]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    with pytest.raises(UserError, match=r"train_dataloader: its .* ulimit -n allows 150; "):
        prepare_loaders(loaders(), KEYS)
    prepare_loaders(loaders(num_workers=0), KEYS)
    for hard, most in ((400, 400), (4096, 1000), (resource.RLIM_INFINITY, 1000)):
        limits[:] = 64, hard
        prepare_loaders(loaders(), KEYS)
        assert 2 * 2 * 16 * 4 < limits[0] <= most and limits[1] == hard
