"""Configs for a user's own data set: files of Python beside it that tools/train.py takes."""

import os
import re
import shlex
import statistics
from pathlib import Path
from typing import NamedTuple

import fcn_plugin
from fcn_plugin.data.own_source import Size

LARGEST_CROP = 512
BATCH = 8
# Pixels of a picture; larger ones are trained on in windows, and predicted in windows of this side
# that overlap by a quarter.
LARGE, WINDOW = 1_500_000, 1024
# Pixels that FCN-8s on VGG16 sees at once, and the length of a picture from which that is little.
FIELD, LONG = 404, 2048


class Facts(NamedTuple):
    """What a config has to know of the data set."""

    root: Path
    classes: list[str]
    palette: list[list[int]]
    suffix: str  # of the images
    sizes: list[Size]
    scale: float  # factor by which images are seen smaller or larger
    splits: dict[str, list[str]]
    scores_test: bool  # whether all test images have labels

    @property
    def size(self) -> Size:
        """The usual one, as it is seen."""
        height, width = (
            max(1, round(statistics.median(sides) * self.scale))
            for sides in zip(*self.sizes, strict=True)
        )
        return height, width

    @property
    def largest(self) -> Size:
        """The largest image, as it is."""
        return max(self.sizes, key=lambda size: size[0] * size[1])

    def advice(self) -> str:
        """A line where the network sees little of a picture; else none."""
        longest = max(self.size)
        if longest <= LONG:
            return ""
        less = self.scale * WINDOW / longest
        return (
            f"{self.root}: the network sees {FIELD} pixels at once, of images {longest:,} pixels "
            f"long; if that shows it too little, prepare them with --scale {less:.2g}"
        )


def shipped_configs() -> Path:
    """The folder of fcn_plugin's own configs: of the clone, or in the installed package."""
    package = Path(fcn_plugin.__file__).resolve().parent
    in_clone = package.with_name("configs")
    return in_clone if (in_clone / "_base_").is_dir() else package / ".mim" / "configs"


def configs(facts: Facts) -> dict[str, str]:
    """The text of each config by its file's name; the last two are to be trained."""
    name = re.sub(r"[^\w-]+", "-", facts.root.resolve().name).strip("-") or "own"
    bases = _base_folder(facts.root)
    height, width = facts.size
    rows, cols = facts.largest
    pixels = rows * cols
    crop = (min(height, LARGEST_CROP), min(width, LARGEST_CROP))
    known = dict(
        bases=bases,
        classes=_lines(facts.classes),
        palette=_lines(facts.palette),
        num_classes=len(facts.classes),
        suffix=facts.suffix,
        scale=float(facts.scale),
        crop=crop,
        batch=BATCH,
        windows=WINDOWS if pixels > LARGE else "",
        slide=SLIDE.format(width=cols, height=rows, side=WINDOW, stride=WINDOW * 3 // 4)
        if pixels * facts.scale**2 > LARGE
        else "",
        test=_test(facts),
    )
    texts = {"dataset.py": DATASET.format_map(known)}
    for pattern, template, epochs, least in RECIPES:
        stem = pattern.format(name)
        iters = _iterations(len(facts.splits["train"]), epochs, least)
        of_run = dict(
            train_it=command("train", facts.root / f"{stem}.py"),
            test_it=command("test", facts.root / f"{stem}.py", f"work_dirs/{stem}"),
            iters=iters,
            interval=iters // 10,
            warm_up=iters // 10,
        )
        texts[f"{stem}.py"] = template.format_map(known | of_run)
    return texts


def command(tool: str, *arguments: str | Path) -> str:
    """To be typed at a prompt, whatever is in the names."""
    texts = (each.as_posix() if isinstance(each, Path) else each for each in arguments)
    return shlex.join(["python", f"tools/{tool}.py", *texts])


def _base_folder(root: Path) -> str:
    """Where the shipped configs are, as seen from ``root`` if both are in one clone."""
    shipped = shipped_configs()
    if root.resolve().is_relative_to(shipped.parent):
        return Path(os.path.relpath(shipped, root.resolve())).as_posix()
    return shipped.as_posix()


def _test(facts: Facts) -> str:
    """The entry of ``splits``."""
    if "test" not in facts.splits:
        return ""
    images = "" if facts.scores_test else ', data_prefix=dict(img_path="JPEGImages")'
    return f'    test=dict(ann_file="ImageSets/Segmentation/test.txt"{images}),\n'


def _iterations(images: int, epochs: int, least: int) -> int:
    """So many passes over the images, but not too few steps for the learning rate, nor too many."""
    wanted = epochs * images // BATCH
    return min(max(wanted, least), 40_000) // 100 * 100


def _lines(items: list) -> str:
    return "".join(f"        {item!r},\n" for item in items)


DATASET = '''"""The data set in this folder, made by tools/prepare_data.py own."""

_base_ = "{bases}/_base_/pipelines.py"
data_root = "{{{{ fileDirname }}}}"  # this folder
metainfo = dict(
    classes=[
{classes}    ],
    palette=[
{palette}    ],
)
# Factor by which images are seen smaller or larger than they are, in training and after.
scale = {scale}
crop_size = {crop}  # height and width
load_label = dict(type="LoadCheckedLabel", num_classes={num_classes})
train_pipeline = [
    _base_.load_image,
    load_label,
{windows}    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Resize", scale_factor=scale * factor)]
            for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
        ],
    ),
    dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale_factor=scale),
    # After Resize: the prediction is scored at the label's own size.
    load_label,
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    _base_.load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale_factor=scale * factor)
                for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            _base_.as_is_and_mirrored,
            [load_label],
            [dict(type="PackSegInputs")],
        ],
    ),
]

train = dict(
    type="BaseSegDataset",
    data_root=data_root,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/train.txt",
    img_suffix="{suffix}",
    metainfo=metainfo,
    pipeline=train_pipeline,
)
val = dict(train, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline)
# What tools/test.py --split puts in place of val's settings.
splits = dict(
    train=dict(ann_file=train["ann_file"]),
    val=dict(ann_file=val["ann_file"]),
{test})

train_dataloader = dict(
    batch_size={batch},
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=train,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=val,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
'''

# Of large images.
WINDOWS = """\
    # What the smallest factor makes a crop of; to resize all of a large image takes long.
    dict(type="FastRandomCrop", crop_size=tuple(int(2 * side / scale) for side in crop_size)),
"""
SLIDE = """\
    # Windows that overlap: whole, an image of {width} x {height} would take much memory.
    test_cfg=dict(mode="slide", crop_size=({side}, {side}), stride=({stride}, {stride})),
"""

PRETRAINED = '''"""FCN-8s on the data set in this folder, from ImageNet weights.

{train_it}
{test_it}
"""

_base_ = [
    "{bases}/_base_/models/fcn8s_vgg16.py",
    "dataset.py",
    "{bases}/_base_/schedules/sgd_40k.py",
    "{bases}/_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size={crop}),
    decode_head=dict(num_classes={num_classes}),
{slide})
# Half of the schedule's, as batches are half as wide.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
max_iters = {iters}
train_cfg = dict(max_iters=max_iters, val_interval={interval})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end={warm_up}, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0.0, begin={warm_up}, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval={interval}))
'''

SCRATCH = '''"""FCN-8s, a quarter as wide, on the data set in this folder, without ImageNet weights.

{train_it}
{test_it}
"""

_base_ = [
    "{bases}/_base_/models/fcn8s_vgg16.py",
    "dataset.py",
    "{bases}/_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size={crop}),
    backbone=dict(
        base_channels=16,
        fc_channels=256,
        dropout_ratio=0.1,
        norm_cfg=dict(type="BN"),
        init_cfg=None,
    ),
    decode_head=dict(in_channels=(64, 128, 256), num_classes={num_classes}),
{slide})
max_iters = {iters}
train_cfg = dict(type="ExactTrainLoop", max_iters=max_iters, val_interval={interval})
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-3, weight_decay=1e-2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end={warm_up}, by_epoch=False),
    dict(type="CosineAnnealingLR", begin={warm_up}, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type="SnapshotHook", by_epoch=False, interval={interval}, max_keep_ckpts=2, save_best="mIoU"
    ),
    score_resumed=dict(type="ScoreResumedHook"),
    bad_numbers=dict(type="BadNumbersHook"),
    visualization=dict(type="SegVisualizationHook"),
)
randomness = dict(seed=0)
'''

# name, text, passes over the training images, least iterations
RECIPES = (
    ("fcn8s_vgg16_{}", PRETRAINED, 100, 2000),
    ("fcn8s_vgg16-bn_{}-scratch", SCRATCH, 100, 400),
)
