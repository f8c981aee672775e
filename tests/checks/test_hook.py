"""Mistakes in data sets, wrapped or not. tests/tools/test_mistakes.py has those a user sees."""

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
from fcn_plugin.checks.config import check_config, check_datasets
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES, PALETTE
from fcn_plugin.prepare.shapes import write_shapes
from fcn_plugin.system.configs import type_name


@pytest.fixture
def root(tmp_path) -> Path:
    write_shapes(tmp_path / "shapes", train=3, val=2, size=32)
    return tmp_path / "shapes"


def plain(root: Path, split: str, **settings) -> dict:
    return dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file=f"ImageSets/Segmentation/{split}.txt",
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        pipeline=[],
        **settings,
    )


def wrapped(root: Path) -> dict:
    both = dict(type="ConcatDataset", datasets=[plain(root, "train"), plain(root, "val")])
    return dict(type="RepeatDataset", times=2, dataset=both)


def loop(dataset: dict) -> SimpleNamespace:
    """What the hook sees of a loop."""
    return SimpleNamespace(
        dataloader=DataLoader(DATASETS.build(dataset)), evaluator=SimpleNamespace(metrics=[])
    )


def run_hook(dataset: dict, num_classes: int = 5) -> None:
    model = nn.Module()
    model.decode_head = SimpleNamespace(num_classes=num_classes)
    DataCheckHook().before_test(SimpleNamespace(model=model, cfg={}, test_loop=loop(dataset)))


def test_a_sound_data_set_passes(root):
    check_datasets(Config(dict(test_dataloader=dict(dataset=wrapped(root)))), ("test_dataloader",))
    run_hook(wrapped(root))


def test_files_missing_inside_wrappers(root):
    label = root / "SegmentationClass" / "val_00001.png"
    label.unlink()
    with pytest.raises(UserError, match=r"val_00001.png: no such label, though .*jpg is there"):
        run_hook(wrapped(root))
    (root / "JPEGImages" / "train_00000.jpg").unlink()
    with pytest.raises(UserError, match=r"train_00000.jpg: no such image"):
        run_hook(wrapped(root))


def test_a_test_set_without_labels_passes(root):
    dataset = plain(root, "val", test_mode=True)
    del dataset["data_prefix"]["seg_map_path"]
    run_hook(dataset)


def test_classes_of_every_part_are_compared(root):
    with pytest.raises(UserError, match=r"has 5 classes.*scores 21.*num_classes=5"):
        run_hook(wrapped(root), num_classes=21)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(data_root="nowhere"), r"nowhere: no such folder \(test_dataloader.dataset"),
        (dict(ann_file="none.txt"), r"none.txt: no such list"),
        (dict(ann_file="empty.txt"), r"empty.txt: the list is empty"),
        (dict(data_prefix=dict(img_path="Images")), r"Images: no such folder .*img_path"),
    ],
)
def test_paths_are_checked_before_anything_is_built(root, change, message):
    (root / "empty.txt").write_text("\n")
    cfg = dict(type="RepeatDataset", times=1, dataset=plain(root, "val") | change)
    with pytest.raises(UserError, match=message):
        check_datasets(Config(dict(test_dataloader=dict(dataset=cfg))), ("test_dataloader",))


def test_classes_may_stand_in_a_file_and_types_be_classes(root):
    """A file of names, and the new style of configs."""
    (root / "classes.txt").write_text("\n".join(CLASSES))
    cfg = plain(root, "val") | dict(metainfo=dict(classes=str(root / "classes.txt")))
    check_datasets(Config(dict(test_dataloader=dict(dataset=cfg))), ("test_dataloader",))
    voc = dict(type=PascalVOCDataset, data_root=str(root), metainfo=dict(classes=("aeroplan",)))
    with pytest.raises(UserError, match="PascalVOCDataset has no class 'aeroplan'"):
        check_datasets(dict(test_dataloader=dict(dataset=voc)), ("test_dataloader",))


def test_data_that_is_elsewhere_is_not_looked_for(root):
    cfg = plain("nowhere", "val", backend_args=dict(backend="petrel"))
    check_datasets(Config(dict(test_dataloader=dict(dataset=cfg))), ("test_dataloader",))


def run_before_train(
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
        logger=SimpleNamespace(warning=lambda text, *values: said.append(text % values)),
    )
    DataCheckHook().before_train(runner)
    return said


@pytest.mark.parametrize(
    ("loads", "ignored", "warns"),
    [("LoadAnnotations", 254, 1), ("LoadAnnotations", 255, 0), ("LoadCheckedLabel", 254, 0)],
)
def test_labels_in_which_mmsegs_loader_leaves_255(root, loads, ignored, warns):
    step = dict(type=loads)
    if loads == "LoadCheckedLabel":
        step |= dict(num_classes=len(CLASSES), ignore_index=ignored)
    data = plain(root, "train") | dict(pipeline=[dict(type="LoadCheckedImage"), step])
    head = dict(type="FCNHead", ignore_index=ignored)
    cfg = dict(model=dict(decode_head=head), train_dataloader=dict(dataset=data))
    said = run_before_train(data, plain(root, "val"), cfg=cfg)
    assert len(said) == warns
    assert all("ignore_index=254" in text and "LoadCheckedLabel" in text for text in said)


def test_images_that_are_trained_on_and_scored_are_warned_of(root):
    assert run_before_train(plain(root, "train"), plain(root, "val")) == []
    (said,) = run_before_train(wrapped(root), plain(root, "val"))
    assert said.startswith("2 images are both trained on and validated with") and "val_0" in said


def test_pascals_images_are_told_by_name(root, tmp_path):
    """SBD and the years of VOC share images, each with a copy of its own."""
    shutil.copytree(root, tmp_path / "other")
    five = dict(classes=PascalVOCDataset.METAINFO["classes"][:5])
    voc = dict(type="PascalVOCDataset", metainfo=five)
    train, val = (plain(folder, "val") | voc for folder in (root, tmp_path / "other"))
    (said,) = run_before_train(train, val)
    assert said.startswith("2 images") and "val_00000" in said


@pytest.mark.parametrize(("size", "warns"), [((32, 32), 1), ((64, 64), 0)])
def test_crops_that_are_larger_than_what_they_are_padded_to(root, size, warns):
    crop = dict(type="FastRandomCrop", crop_size=(48, 48))
    data = plain(root, "train") | dict(pipeline=[crop])
    said = run_before_train(data, plain(root, "val"), size)
    assert len(said) == warns
    assert all("model.data_preprocessor.size=(32, 32)" in text for text in said)


@pytest.mark.parametrize(
    ("metainfo", "message"),
    [
        (dict(classes="water"), r"metainfo.classes='water'.*\['background', 'water'\]"),
        (dict(classes=CLASSES, palette=PALETTE[:3]), "3 colours for 5 classes"),
        (dict(classes=CLASSES, palette=[*PALETTE[:4], [0, 256, 0]]), r"\[0, 256, 0\]"),
    ],
)
def test_classes_and_their_colours(root, metainfo, message):
    cfg = plain(root, "val") | dict(metainfo=metainfo)
    with pytest.raises(UserError, match=message):
        check_datasets(dict(test_dataloader=dict(dataset=cfg)), ("test_dataloader",))


def test_colours_that_fit(root):
    """Of some of a set's classes mmseg takes theirs; without any it draws them."""
    voc = PascalVOCDataset.METAINFO
    for metainfo in (
        dict(classes=voc["classes"][:3]),
        dict(classes=voc["classes"][:3], palette=voc["palette"]),
        dict(classes=voc["classes"][:3], palette=voc["palette"][:3]),
        dict(palette=[]),
    ):
        cfg = plain(root, "val") | dict(type="PascalVOCDataset", metainfo=metainfo)
        check_datasets(dict(test_dataloader=dict(dataset=cfg)), ("test_dataloader",))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            "model['decode_head'].update(ignore_index=254)",
            "data_preprocessor.seg_pad_val=254",
        ),
        (
            "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)",
            "train_dataloader.sampler",
        ),
        ("default_hooks = dict(checkpoint=dict(save_best='mDice'))", "save_best='mDice'"),
    ],
)
def test_by_any_runner(root, tmp_path, monkeypatch, extra, message):
    """The host's own tool builds nothing but this."""
    monkeypatch.chdir(tmp_path)
    root.rename(tmp_path / "data_")
    (tmp_path / "data").mkdir()
    (tmp_path / "data_").rename(tmp_path / "data/shapes")
    cfg = Config.fromfile(config(tmp_path, extra))
    cfg.work_dir = str(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        Runner.from_cfg(cfg).train()


def test_a_list_given_to_a_wrapper(root):
    cfg = Config(dict(train_dataloader=dict(dataset=wrapped(root) | dict(ann_file="list.txt"))))
    with pytest.raises(UserError, match=r"this RepeatDataset wraps others; set train_dataloader\."):
        check_datasets(cfg, ("train_dataloader",))


@pytest.mark.parametrize(
    "kind",
    [
        "DataCheckHook",
        "mmseg.DataCheckHook",
        "fcn_plugin.checks.hook.DataCheckHook",
        DataCheckHook,
    ],
    ids=str,
)
def test_the_hook_is_known_by_any_way_to_name_it(kind):
    assert type_name(dict(type=kind)) == "DataCheckHook"
    cfg = Config(dict(custom_hooks=[dict(type=kind)]))
    check_config(cfg, ())
    assert len(cfg.custom_hooks) == 1


def test_what_mmengine_writes_of_a_config_of_the_new_style(tmp_path):
    (tmp_path / "new.py").write_text(
        "from fcn_plugin.checks.hook import DataCheckHook\n"
        "custom_hooks = [dict(type=DataCheckHook)]\n"
    )
    cfg = Config.fromfile(tmp_path / "new.py", lazy_import=True)
    cfg.dump(tmp_path / "written.py")
    for each in (cfg, Config.fromfile(tmp_path / "written.py")):
        check_config(each, ())
        assert len(each.custom_hooks) == 1
