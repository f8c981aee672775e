"""Configs that cannot be run are refused before anything is built.

tests/tools/test_mistakes.py has what a user sees of it.
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
    check_settings,
    prepare_loaders,
)
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES, PALETTE
from fcn_plugin.prepare.shapes import write_shapes


def test_what_belongs_together():
    whole = dict(val_dataloader={}, val_cfg={}, val_evaluator={})
    check_settings(whole)
    check_settings({})
    with pytest.raises(UserError, match=r"no val_evaluator.*val_dataloader=None val_cfg=None"):
        check_settings(dict(whole, val_evaluator=None))


def test_backends(monkeypatch, tmp_path):
    """A folder that a backend left is not its package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    backends = [dict(type="LocalVisBackend"), dict(type="WandbVisBackend")]
    with pytest.raises(UserError, match=r"vis_backends\.1.*pip install wandb"):
        check_settings(dict(visualizer=dict(vis_backends=backends)))
    (tmp_path / "wandb/__init__.py").touch()
    check_settings(dict(visualizer=dict(vis_backends=backends)))


def test_the_hook_is_known_by_any_way_to_name_it(tmp_path):
    """The last is what mmengine writes of a config of the new style."""
    (tmp_path / "new.py").write_text(
        "from fcn_plugin.checks.hook import DataCheckHook\n"
        "custom_hooks = [dict(type=DataCheckHook)]\n"
    )
    new = Config.fromfile(tmp_path / "new.py", lazy_import=True)
    new.dump(tmp_path / "written.py")
    names = ("DataCheckHook", "mmseg.DataCheckHook", DataCheckHook)
    named = [Config(dict(custom_hooks=[dict(type=name)])) for name in names]
    for cfg in (Config(), *named, new, Config.fromfile(tmp_path / "written.py")):
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
    check(root, dict(ann_file=""))
    check(root, dict(metainfo=dict(classes=str(root / "classes.txt"))))
    check(root, dict(data_root="nowhere", backend_args=dict(backend="petrel")))
    three, palette = PascalVOCDataset.METAINFO["classes"][:3], PascalVOCDataset.METAINFO["palette"]
    for colours in (dict(), dict(palette=palette), dict(palette=palette[:3]), dict(palette=[])):
        check(root, dict(type="PascalVOCDataset", metainfo=dict(colours, classes=three)))


MISTAKES = [
    (dict(data_root="nowhere"), r"nowhere: no such folder \(test_dataloader.dataset.data_root\)"),
    (dict(ann_file="none.txt"), r"none.txt: no such list \(test_dataloader.dataset.ann_file\)"),
    (dict(ann_file="empty.txt"), "empty.txt: the list is empty"),
    (dict(data_prefix=dict(img_path="Images")), "Images: no such folder .*data_prefix.img_path"),
    (dict(ann_file="", img_suffix=".tif"), r"no image ends with '.tif', it has .jpg; set test_d"),
    (dict(type=PascalVOCDataset, metainfo=dict(classes=("aeroplan",))), "PascalVOC.*'aeroplane'"),
    (dict(metainfo=dict(classes="water")), r"metainfo.classes='water'.*\['background', 'water'\]"),
    (dict(metainfo=dict(classes=CLASSES, palette=PALETTE[:3])), "3 colours for 5 classes"),
    (dict(metainfo=dict(classes=CLASSES, palette=[*PALETTE[:4], [0, 256, 0]])), r"\[0, 256, 0\]"),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes_in_data_sets(root, changes, message):
    with pytest.raises(UserError, match=message) as error:
        check(root, changes)
    assert "\n" not in str(error.value)


def test_a_list_given_to_a_wrapper():
    cfg = dict(type="RepeatDataset", dataset={}, ann_file="list.txt")
    with pytest.raises(UserError, match=r"this RepeatDataset wraps others; set train_dataloader\."):
        check_datasets(dict(train_dataloader=dict(dataset=cfg)), ("train_dataloader",))


# --- data loaders --------------------------------------------------------------------------------

KEYS = ("train_dataloader", "val_dataloader", "test_dataloader")


def loaders(**train) -> Config:
    loader = dict(batch_size=16, num_workers=4)
    return Config(dict(train_dataloader=loader | train, val_dataloader=dict(num_workers=0)))


@pytest.fixture
def limits(monkeypatch):
    """Of open files, soft and hard; the test's own stay."""
    limits = [64, 1024]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: limits.__setitem__(slice(None), new))
    return limits


def test_a_worker_is_not_waited_for_for_ever(limits):
    for given, timeout in ({}, PATIENCE), (dict(timeout=5), 5):
        cfg = loaders(**given)
        prepare_loaders(cfg, KEYS)
        assert cfg.train_dataloader.timeout == timeout
        assert "timeout" not in cfg.val_dataloader  # which PyTorch refuses without workers


@pytest.mark.parametrize("hard", [64, 150])
def test_too_few_open_files_are_told_before_the_run(limits, hard):
    limits[:] = 64, hard
    with pytest.raises(UserError, match=rf"train_dataloader: its .* ulimit -n allows {hard}; "):
        prepare_loaders(loaders(), KEYS)
    prepare_loaders(loaders(num_workers=0), KEYS)
    prepare_loaders(loaders(), KEYS[1:])


@pytest.mark.parametrize("hard", [400, 4096, resource.RLIM_INFINITY])
def test_the_limit_is_raised_as_far_as_it_may_be(limits, hard):
    limits[:] = 64, hard
    prepare_loaders(loaders(), KEYS)
    assert 2 * 2 * 16 * 4 < limits[0] <= (1000 if hard != 400 else 400) and limits[1] == hard
    limits[:] = 100_000, 100_000
    prepare_loaders(loaders(), KEYS)
    assert limits == [100_000, 100_000]
