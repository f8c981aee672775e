"""What users get wrong ends in one line that names the file or setting and the remedy."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from tools.running import config, tool

from fcn_plugin.prepare.shapes import write_shapes

SHAPES = "data/shapes"
ALL_TRAIN = sorted(f"train_{i:05d}" for i in range(4))


def truncate(folder: Path) -> None:
    for name in ALL_TRAIN:
        path = folder / SHAPES / "JPEGImages" / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[:-200])


def relabel(folder: Path) -> None:
    for name in ALL_TRAIN:
        path = folder / SHAPES / "SegmentationClass" / f"{name}.png"
        labels = np.asarray(Image.open(path)).copy()
        labels[0, :3] = 9
        Image.fromarray(labels).save(path)


def unlabel(folder: Path) -> None:
    (folder / SHAPES / "SegmentationClass" / "train_00002.png").unlink()


def in_black_and_white(folder: Path) -> None:
    for path in (folder / SHAPES / "SegmentationClass").glob("*.png"):
        Image.fromarray(np.uint8(255) * (np.asarray(Image.open(path)) > 0)).save(path)


def widen(folder: Path) -> None:
    for path in (folder / SHAPES).rglob("val_00001.*"):
        with Image.open(path) as image:
            image.resize((48, 32), Image.Resampling.NEAREST).save(path)


def nothing(folder: Path) -> None:
    """The mistake is in the config or the options."""


FCN = "dict(type='FCNHead', in_channels=8, in_index=0, channels=4, num_convs=1, num_classes={})"
OCR = FCN.replace("FCNHead", "OCRHead").replace("num_convs", "ocr_channels")
PIPELINE = (
    "[dict(type='LoadCheckedImage'), dict(type='LoadCheckedLabel', num_classes={}), "
    "dict(type='PackSegInputs')]"
)
WORKERS = "train_dataloader = dict(num_workers=1, persistent_workers=True)"
# name: (what goes wrong with the data, addition to the config, options, what the line must have)
MISTAKES: dict[str, tuple[Callable[[Path], None], str, list[str], list[str]]] = {
    "misspelt type": (
        nothing,
        'model = dict(decode_head=dict(type="SkipFusonHead"))',
        [],
        ["type='SkipFusonHead' in the config", "did you mean 'SkipFusionHead'?"],
    ),
    "misspelt setting": (
        nothing,
        "model = dict(decode_head=dict(upsampling='nearest'))",
        [],
        ["upsampling", "check the spelling"],
    ),
    "misspelt class": (
        nothing,
        'val_dataloader = dict(dataset=dict(type="PascalVOCDataset", '
        'metainfo=dict(_delete_=True, classes=("background", "aeroplan"))))',
        [],
        ["aeroplan", "did you mean 'aeroplane'?"],
    ),
    "missing data root": (
        lambda folder: shutil.rmtree(folder / SHAPES),
        "",
        [],
        ["data/shapes: no such folder", "tools/prepare_data.py"],
    ),
    "missing list": (
        lambda folder: (folder / SHAPES / "ImageSets/Segmentation/val.txt").unlink(),
        "",
        [],
        ["val.txt: no such list", "val_dataloader.dataset.ann_file"],
    ),
    "label outside the classes": (relabel, "", [], ["train_0000", ".png", "9 (3 px)", "0-4, 255"]),
    "image without its label": (
        unlabel,
        "",
        [],
        ["train_00002.png: no such label", "add the label"],
    ),
    "masks of 0 and 255": (
        in_black_and_white,
        "",
        [],
        ["SegmentationClass", "only 0", "255", "write 1 in place of 255", "tools/prepare_data.py"],
    ),
    "truncated JPEG": (truncate, WORKERS, [], ["train_0000", ".jpg", "truncated", "again"]),
    "classes of another data set": (
        nothing,
        "model = dict(decode_head=dict(num_classes=21))",
        [],
        ["5 classes", "21", "model.decode_head.num_classes=5"],
    ),
    "classes of an auxiliary head": (
        nothing,
        f"model = dict(auxiliary_head={FCN.format(4)})",
        [],
        ["5 classes", "4", "model.auxiliary_head.num_classes=5"],
    ),
    "classes of one of two auxiliary heads": (
        nothing,
        f"model = dict(auxiliary_head=[{FCN.format(5)}, {FCN.format(21)}])",
        [],
        ["5 classes", "21", "model.auxiliary_head.1.num_classes=5"],
    ),
    "classes of the first head of a cascade": (
        nothing,
        "model.update(type='CascadeEncoderDecoder', num_stages=2, "
        f"decode_head=[{FCN.format(4)}, {OCR.format(5)}])",
        [],
        ["5 classes", "4", "model.decode_head.0.num_classes=5"],
    ),
    "classes of a label loader": (
        nothing,
        f"train_dataloader = dict(dataset=dict(pipeline={PIPELINE.format(4)}))",
        [],
        ["5 classes", "4", "train_dataloader.dataset.pipeline", "num_classes=5"],
    ),
    "a single class": (
        nothing,
        "model['decode_head'].update(num_classes=1)\n"
        "train_dataloader = dict(dataset=dict(metainfo=dict(_delete_=True, classes=['shape']), "
        f"pipeline={PIPELINE.format(1)}))",
        [],
        ["['background', 'shape']", "model.decode_head.num_classes=2", "use_sigmoid"],
    ),
    "a single channel with a softmax": (
        nothing,
        "model['decode_head'].update(num_classes=2, out_channels=1, "
        "loss_decode=dict(type='CrossEntropyLoss'))\n"
        "two = dict(dataset=dict(metainfo=dict(_delete_=True, classes=['ground', 'shape']), "
        f"pipeline={PIPELINE.format(2)}))\n"
        "train_dataloader, val_dataloader = two, two",
        [],
        ["model.decode_head", "model.decode_head.loss_decode.use_sigmoid=True"],
    ),
    "two numbers for ignored pixels": (
        nothing,
        f"model = dict(decode_head=dict(ignore_index=254), auxiliary_head={FCN.format(5)})\n"
        "model['auxiliary_head'].update(ignore_index=253)",
        [],
        ["model.decode_head.ignore_index=254", "model.auxiliary_head.ignore_index=253"],
    ),
    "a number that no label has": (
        nothing,
        "model = dict(decode_head=dict(ignore_index=-100))",
        [],
        ["model.decode_head.ignore_index=-100", "8 bits"],
    ),
    "an endless sampler by epochs": (
        nothing,
        "train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)",
        [],
        ["train_dataloader.sampler", "InfiniteSampler", "DefaultSampler"],
    ),
    "an endless sampler to score": (
        nothing,
        "val_dataloader = dict(sampler=dict(type='InfiniteSampler'))",
        [],
        ["val_dataloader.sampler", "InfiniteSampler", "DefaultSampler"],
    ),
    "images of two sizes in a batch": (
        widen,
        "",
        [],
        ["val_00000.jpg", "32x32", "val_00001.jpg", "48x32", "val_dataloader.batch_size=1"],
    ),
    "a label that is resized": (
        nothing,
        f"val_dataloader = dict(dataset=dict(pipeline={PIPELINE.format(5)}))\n"
        "steps = val_dataloader['dataset']['pipeline']\n"
        "steps.insert(2, dict(type='Resize', scale=(16, 16)))",
        [],
        ["val_00000.jpg", "32x32", "16x16", "val_dataloader.dataset.pipeline"],
    ),
    "a palette too short": (
        nothing,
        "train_dataloader = dict(dataset=dict(metainfo=dict(palette=[[0, 0, 0]])))",
        [],
        ["metainfo.palette", "1 colours", "5 classes"],
    ),
    "one text for the classes": (
        nothing,
        "train_dataloader = dict(dataset=dict(metainfo=dict(_delete_=True, classes='water')))",
        [],
        ["metainfo.classes='water'", "['background', 'water']"],
    ),
    "no image of that suffix": (
        nothing,
        "train_dataloader = dict(dataset=dict(ann_file='', img_suffix='.tif'))",
        [],
        ["JPEGImages", "'.tif'", ".jpg", "train_dataloader.dataset.img_suffix"],
    ),
    "a score that is not computed": (
        nothing,
        "default_hooks = dict(checkpoint=dict(save_best='mDice'))",
        [],
        ["save_best='mDice'", "aAcc, fwIoU, mAcc, mIoU"],
    ),
    "a misspelt score of the host's metric": (
        nothing,
        "val_evaluator = dict(type='IoUMetric', iou_metrics=['mIOU'])",
        [],
        ["iou_metrics", "'mIOU'", "mIoU"],
    ),
    "a backend that is not installed": (
        nothing,
        "visualizer = dict(vis_backends=[dict(type='WandbVisBackend')])",
        [],
        ["visualizer.vis_backends.0", "pip install wandb"],
    ),
    "no optimizer": (
        nothing,
        "optim_wrapper = None",
        [],
        ["train_dataloader and train_cfg", "no optim_wrapper"],
    ),
    "no evaluator": (
        nothing,
        "test_evaluator = None",
        [],
        ["test_dataloader", "no test_evaluator", "test_dataloader=None"],
    ),
    "mmseg's focal loss on a CPU": (
        nothing,
        "model = dict(decode_head=dict(loss_decode=dict(type='FocalLoss')))",
        [],
        ["model.decode_head.loss_decode", "FocalLoss", "CPU", "CrossEntropyLoss"],
    ),
    "weights for other classes": (
        nothing,
        "model['decode_head'].update(loss_decode=dict(type='CrossEntropyLoss', "
        "class_weight=[1.0] * 4))",
        [],
        ["model.decode_head.loss_decode.class_weight", "4", "5"],
    ),
    "windows without a size": (
        nothing,
        "model = dict(test_cfg=dict(mode='slide'))",
        [],
        ["model.test_cfg.crop_size", "model.test_cfg.stride"],
    ),
    "a batch of one for BatchNorm": (
        nothing,
        "model['decode_head'].update(type='PSPHead', in_channels=8, in_index=0, channels=4)\n"
        "model['decode_head'].update(norm_cfg=dict(type='BN'))\n"
        "train_dataloader['batch_size'] = 1",
        [],
        ["decode_head.psp_modules.0", "train_dataloader.batch_size=2"],
    ),
    "levels of another backbone": (
        nothing,
        "model['decode_head'].update(in_channels=(8, 16, 4096))",
        [],
        ["set in_channels=(8, 16, 8)"],
    ),
    "weights that are not there": (
        nothing,
        "init = dict(type='Pretrained', checkpoint='vgg16.pth', _delete_=True)\n"
        "model['backbone'].update(init_cfg=init)",
        [],
        ["vgg16.pth: no such file", "init_cfg.checkpoint"],
    ),
    "a dict for what was None": (
        nothing,
        "load_from = dict(type='Pretrained', checkpoint='vgg16.pth')",
        [],
        ["load_from", "_delete_=True"],
    ),
    "misspelt optimizer": (
        nothing,
        "optim_wrapper = dict(optimizer=dict(type='AdmW'))",
        [],
        ["type='AdmW' in the config", "did you mean 'AdamW'?"],
    ),
    "a shorthand overridden": (
        nothing,
        "",
        ["--cfg-options", "data_root=elsewhere"],
        ["data_root: only a shorthand", "train_dataloader.dataset.data_root=..."],
    ),
    "no such checkpoint": (
        nothing,
        "",
        ["--resume", "none.pth"],
        ["none.pth: no such checkpoint", "tools/train.py"],
    ),
    "not a checkpoint": (
        lambda folder: (folder / "notes.pth").write_text("notes"),
        "",
        ["--resume", "notes.pth"],
        ["notes.pth: not a PyTorch checkpoint"],
    ),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict:
    """All of them, two at a time."""
    made = tmp_path_factory.mktemp("made")
    write_shapes(made / SHAPES, train=4, val=2, size=32)

    def attempt(item):
        name, (spoil, extra, options, _) = item
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        shutil.copytree(made, folder, dirs_exist_ok=True)
        spoil(folder)
        return name, tool("train.py", config(folder, extra), *options, folder=folder)

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(attempt, MISTAKES.items()))


@pytest.mark.parametrize("name", MISTAKES)
def test_one_line_names_it_and_the_remedy(name, runs):
    run = runs[name]
    assert run.returncode == 1, run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), run.stderr
    assert "Traceback" not in run.stderr
    for part in MISTAKES[name][3]:
        assert part in last


def test_help_is_quick_to_answer_and_complete(tmp_path):
    for name in ("train.py", "test.py"):
        run = tool(name, "--help", folder=tmp_path, PYTHONPATH="/nonexistent")
        assert run.returncode == 0
        for option in ("--work-dir", "--cfg-options", "--launcher"):
            assert option in run.stdout


def test_a_mistyped_option(tmp_path):
    options = ["--cfg-options", "train_cfg.max_iters"]
    run = tool("train.py", "c.py", *options, folder=tmp_path, PYTHONPATH="/nonexistent")
    assert run.returncode == 2
    assert "'train_cfg.max_iters' is not KEY=VALUE" in run.stderr.splitlines()[-1]


def test_a_missing_config(tmp_path):
    run = tool("train.py", "configs/none.py", folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("error: configs/none.py: no such config")


def test_parts_of_a_config_that_are_not_there(tmp_path):
    """Neither as None; to test, what training needs may be left out."""
    whole = Config.fromfile(config(tmp_path)).to_dict()
    del whole["optim_wrapper"]
    Config(whole).dump(tmp_path / "none.py")
    (tmp_path / "weights.pth").touch()
    for call, missing in (
        (("train.py", "none.py"), "no optim_wrapper"),
        (
            ("test.py", "tiny.py", "weights.pth", "--cfg-options", "test_evaluator=None"),
            "no test_evaluator",
        ),
    ):
        done = tool(*call, folder=tmp_path)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("error: the config has ") and missing in last
