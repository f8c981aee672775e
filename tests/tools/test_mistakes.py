"""What users get wrong ends in one line that names the file or setting and the remedy."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from prediction.trained import image, trained
from tools.running import TOOLS, config, tool

from fcn_plugin.prepare.shapes import write_shapes

SHAPES = "data/shapes"
FCN = "dict(type='FCNHead', in_channels=8, in_index=0, channels=4, num_convs=1, num_classes={})"
STEPS = (
    "[dict(type='LoadCheckedImage'), dict(type='LoadCheckedLabel', num_classes={}), "
    "dict(type='PackSegInputs')]"
)
# Of a config that is trained: its name, what is added to it, and what the last line must name.
CONFIGS_TEXT = f"""
misspelt type: model = dict(decode_head=dict(type='SkipFusonHead'))
-> type='SkipFusonHead' in the config|did you mean 'SkipFusionHead'?
misspelt setting: model = dict(decode_head=dict(upsampling='nearest'))
-> upsampling|check the spelling
misspelt class: names = dict(_delete_=True, classes=('background', 'aeroplan'))
val_dataloader = dict(dataset=dict(type='PascalVOCDataset', metainfo=names))
-> aeroplan|did you mean 'aeroplane'?
classes of another data set: model = dict(decode_head=dict(num_classes=21))
-> 5 classes|21|model.decode_head.num_classes=5
classes of one of two: model = dict(auxiliary_head=[{FCN.format(5)}, {FCN.format(21)}])
-> 5 classes|21|model.auxiliary_head.1.num_classes=5
classes of a label loader: train_dataloader = dict(dataset=dict(pipeline={STEPS.format(4)}))
-> 5 classes|4|train_dataloader.dataset.pipeline|num_classes=5
a single class: model['decode_head'].update(num_classes=1)
names = dict(_delete_=True, classes=['shape'])
train_dataloader = dict(dataset=dict(metainfo=names, pipeline={STEPS.format(1)}))
-> ['background', 'shape']|model.decode_head.num_classes=2|use_sigmoid
two numbers for void: model['decode_head'].update(ignore_index=254)
model.update(auxiliary_head=dict({FCN.format(5)}, ignore_index=253))
-> model.decode_head.ignore_index=254|model.auxiliary_head.ignore_index=253
a number that no label has: model = dict(decode_head=dict(ignore_index=-100))
-> model.decode_head.ignore_index=-100|8 bits
an endless sampler: train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=1)
-> train_dataloader.sampler|InfiniteSampler|DefaultSampler
a label that is resized: steps = {STEPS.format(5)}
steps.insert(2, dict(type='Resize', scale=(16, 16)))
val_dataloader = dict(dataset=dict(pipeline=steps))
-> val_00000.jpg|32x32|16x16|val_dataloader.dataset.pipeline
a palette too short: train_dataloader = dict(dataset=dict(metainfo=dict(palette=[[0, 0, 0]])))
-> metainfo.palette|1 colours|5 classes
one text for the classes: names = dict(_delete_=True, classes='water')
train_dataloader = dict(dataset=dict(metainfo=names))
-> metainfo.classes='water'|['background', 'water']
no image of that suffix: train_dataloader = dict(dataset=dict(ann_file='', img_suffix='.tif'))
-> JPEGImages|'.tif'|.jpg|train_dataloader.dataset.img_suffix
a score that is not computed: default_hooks = dict(checkpoint=dict(save_best='mFscore'))
-> save_best='mFscore'|aAcc, fwIoU, mAcc, mDice, mIoU
a backend that is not installed: visualizer = dict(vis_backends=[dict(type='WandbVisBackend')])
-> visualizer.vis_backends.0|pip install wandb
an optimizer that is no dict: optim_wrapper = dict(optimizer=['SGD'])
-> optim_wrapper.optimizer is ['SGD']|optim_wrapper.optimizer.lr=0.01
no optimizer: optim_wrapper = None
-> train_dataloader and train_cfg|no optim_wrapper
a loss that needs a GPU: model = dict(decode_head=dict(loss_decode=dict(type='FocalLoss')))
-> model.decode_head.loss_decode|FocalLoss|CPU|CrossEntropyLoss
windows without a size: model = dict(test_cfg=dict(mode='slide'))
-> model.test_cfg.crop_size|model.test_cfg.stride
a batch of one for BatchNorm: train_dataloader['batch_size'] = 1
model['decode_head'].update(type='PSPHead', in_channels=8, in_index=0, channels=4)
model['decode_head'].update(norm_cfg=dict(type='BN'))
-> decode_head.psp_modules.0|train_dataloader.batch_size=2
a dict for what was None: load_from = dict(type='Pretrained', checkpoint='vgg16.pth')
-> load_from|_delete_=True
"""
ROW = re.compile(r"([^:\n]+): (.+?)\n-> (.+?)\n", re.DOTALL)
CONFIGS = {name: (extra, words) for name, extra, words in ROW.findall(CONFIGS_TEXT)}


def relabelled(*numbers: int) -> Callable[[Path], None]:
    """Gives each class another number."""
    table = np.array([*numbers, *range(len(numbers), 256)], np.uint8)

    def relabel(folder: Path) -> None:
        for path in (folder / "SegmentationClass").glob("*.png"):
            Image.fromarray(table[np.asarray(Image.open(path))]).save(path)

    return relabel


def unlisted(folder: Path) -> None:
    (folder / "ImageSets/Segmentation/val.txt").unlink()


WORKERS = "train_dataloader = dict(num_workers=1)"
# Of data that are trained on: what goes wrong with them, and what the last line must name.
DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "no root": (shutil.rmtree, "data/shapes: no such folder|fcn-plugin prepare_data"),
    "no list": (unlisted, "val.txt: no such list|val_dataloader.dataset.ann_file"),
    "label outside the classes": (relabelled(9, 1, 2, 3, 4), "_0000|.png|9 (|0-4, 255"),
    "masks": (relabelled(0, 255, 255, 255, 255), "SegmentationClass|only 0|write 1 in place of"),
}

# Of files of strangers: one that runs code, and one with a name that a terminal would obey.
REFUSED = "attack.pth: asks for posix.system, which may run code"
ESCAPES = "\x1b]0;x\x07\x1b[31m\nFAKE\r\u202e"


class Attack:
    def __reduce__(self):
        return os.system, ("touch executed",)


# Of the command line, in a folder with data, a config tiny.py and its weights.pth: what the only
# line of stderr must name.
COMMANDS = {
    "train.py none.py": "none.py: no such config",
    "train.py tiny.py --cfg-options data_root=elsewhere": "data_root: only a shorthand|"
    "train_dataloader.dataset.data_root=...",
    "train.py tiny.py --resume none.pth": "none.pth: no such checkpoint|fcn-plugin train",
    "test.py tiny.py weights.pth --cfg-options test_evaluator=None": "no test_evaluator",
    "test.py tiny.py torn": "torn: no checkpoint there",
    "test.py tiny.py attack.pth": REFUSED,
    "predict.py tiny.py attack.pth photo.png --out o2": REFUSED,
    "predict.py tiny.py named.pth photo.png --out o2": r"\x1b]0;x\x07\x1b[31m",
    "export_onnx.py tiny.py attack.pth o": REFUSED,
    "train.py tiny.py --resume attack.pth": REFUSED,
    "train.py tiny.py --cfg-options load_from=attack.pth": REFUSED,
    "test.py unsplit.py weights.pth --split val": "unsplit.py has no table splits",
    "test.py tiny.py weights.pth --split tets": "--split tets: tiny.py has only train, val",
    "test.py several.py weights.pth --split val": "test_dataloader.dataset of several.py wraps",
    "test.py several.py weights.pth --out x": "several ways",
    "test.py several.py weights.pth --show-dir x": "several ways",
    "export_onnx.py several.py weights.pth o": "several ways",
    "test.py blind.py weights.pth --show-dir x": "blind.py: its test images have no labels|"
    "--submission FILE or --out DIR",
    "export_onnx.py tiny.py weights.pth o --images no.png": "no.png",
    "report.py data": "data: no training in it; give a work dir that fcn-plugin train has",
    "train_stages.py tiny.py tiny.py": "tiny is in the chain twice",
    "prepare_data.py voc2012 --check --archive a.tar": "leave --archive out",
}
# Answered by the option parser, at once: without the package, which could not be imported.
OPTIONS = {
    "train.py c.py --cfg-options train_cfg.max_iters": "'train_cfg.max_iters' is not KEY=VALUE",
    "test.py c.py c.pth --comp 5": "--submission",
    "predict.py c.py c.pth a.png --out o --max-memory much": "'much' is no size; give e.g. 2GB",
    "predict.py c.py c.pth a.png --out o --tta --probabilities": "leave one out",
    "score.py --pred p --truth t --protocol voc --jobs 0": "--jobs: at least 1",
    "report.py a b c": "one work dir, or two to lay side by side",
    "convert_weights.py a o --net unet": "choose from",
    "export_onnx.py c.py c.pth o --size 0 1": "--size: at least 1 1",
}


def in_pairs(work: Callable, items: dict) -> dict:
    """What ``work`` gives of each item, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(items, pool.map(work, items), strict=True))


def check(run, wanted: str) -> None:
    assert run.returncode == 1, run.stderr
    assert "Traceback" not in run.stderr, run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and last.isprintable(), run.stderr
    assert [part for part in wanted.split("|") if part not in last] == [], last


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_shapes(folder / SHAPES, train=4, val=2, size=32)
    return folder


TRAININGS = CONFIGS | {name: (WORKERS, words) for name, (_, words) in DATA.items()}


@pytest.fixture(scope="module")
def trainings(made, tmp_path_factory) -> dict:
    def attempt(name: str):
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        shutil.copytree(made, folder, dirs_exist_ok=True)
        if name in DATA:
            DATA[name][0](folder / SHAPES)
        return tool("train.py", config(folder, TRAININGS[name][0]), folder=folder)

    return in_pairs(attempt, TRAININGS)


@pytest.mark.parametrize("name", TRAININGS)
def test_of_a_training(name, trainings):
    check(trainings[name], TRAININGS[name][1])


@pytest.fixture(scope="module")
def commands(made, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("commands")
    shutil.copytree(made, folder, dirs_exist_ok=True)
    file, _ = trained(folder)
    test = "_base_.test_dataloader.dataset"
    both = f"datasets=[{test}, dict({test}, reduce_zero_label=True)]"
    wrapping = f"_delete_=True, type='ConcatDataset', {both}, ignore_keys=['reduce_zero_label']"
    for name, text in {
        "unsplit": "splits = None",
        "several": f"test_dataloader = dict(dataset=dict({wrapping}))",
        "blind": "test_dataloader = dict(dataset=dict(data_prefix=dict(seg_map_path=None)))",
    }.items():
        (folder / f"{name}.py").write_text(f"_base_ = 'tiny.py'\n{text}\n")
    (folder / "torn").mkdir()
    (folder / "torn/best_mIoU_iter_1.pth").write_bytes(b"torn")
    shutil.copy(file, folder / "torn")

    image(folder / "photo.png", 32, 32)
    torch.save(dict(state_dict=dict(weight=Attack())), folder / "attack.pth")
    named = dict(made_for=ESCAPES, padding="reference")
    torch.save(dict(state_dict={}, meta=named), folder / "named.pth")
    (folder / "o").write_text("precious")
    results = in_pairs(lambda command: tool(command, folder=folder), COMMANDS)
    assert (folder / "o").read_text() == "precious" and not (folder / "executed").exists()
    return results


@pytest.mark.parametrize("command", COMMANDS)
def test_of_a_command(command, commands):
    check(commands[command], COMMANDS[command])


def bare(*command: str, folder: Path):
    """Started without site-packages, and with them all that would take its time to import."""
    argv = [sys.executable, "-S", TOOLS / command[0], *command[1:]]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, env={})


@pytest.mark.parametrize("command", OPTIONS)
def test_of_an_option(command, tmp_path):
    run = bare(*command.split(), folder=tmp_path)
    assert run.returncode == 2
    assert OPTIONS[command] in run.stderr.splitlines()[-1]


def test_without_the_package_the_tools_say_so(tmp_path):
    run = bare("prepare_data.py", "shapes", folder=tmp_path)
    assert run.returncode == 1 and run.stderr.startswith("error: fcn_plugin is not installed")
