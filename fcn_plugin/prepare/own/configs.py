"""Configs for a user's own data set: Python files in its folder, to be given to fcn-plugin train.

They hold only what differs from the shipped configs, such as ``configs/_base_/datasets/own.py``.
"""

import os
import re
import shlex
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from fcn_plugin.prepare.own.source import Size
from fcn_plugin.system.configs import shipped_configs

LARGEST_CROP = 512
BATCH = 8
# Pictures of more than LARGE pixels are trained on in windows, and predicted in windows with a side
# of WINDOW pixels that overlap by a quarter.
LARGE, WINDOW = 1_500_000, 1024
# Side in pixels of what FCN-8s on VGG16 sees at once; little for pictures longer than LONG pixels.
FIELD, LONG = 404, 2048

DATASET = '''"""The data set in this folder, made by fcn-plugin prepare_data own."""

_base_ = "{bases}/_base_/datasets/own.py"
data_root = "{{{{ fileDirname }}}}"  # this folder
metainfo = dict(
    classes=[
{classes}    ],
    palette=[
{palette}    ],
)
# Factor by which images are resized, in training and in prediction.
scale = {scale}
crop_size = {crop}  # height and width
load_label = dict(type="LoadCheckedLabel", num_classes={num_classes})
train_pipeline = [
    _base_.load_image,
    load_label,
{windows}    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Resize", scale_factor=scale * zoom)] for zoom in _base_.training_zooms
        ],
    ),
    dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    *_base_.after_crop,
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
            [dict(type="Resize", scale_factor=scale * zoom) for zoom in _base_.tta_zooms],
            _base_.as_is_and_mirrored,
            [load_label],
            [dict(type="PackSegInputs")],
        ],
    ),
]
train = dict(
    data_root=data_root, img_suffix="{suffix}", metainfo=metainfo, pipeline=train_pipeline
)
val = dict(train, pipeline=test_pipeline)
train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=val)
test_dataloader = val_dataloader
{test}'''

# Inserted for large images.
WINDOWS = """\
    # A window that is enough for a crop at the smallest zoom; resizing a whole large image is slow.
    dict(type="FastRandomCrop", crop_size=tuple(int(2 * side / scale) for side in crop_size)),
"""
SLIDE = """\
    # Windows that overlap: a whole image of {size} would take much memory.
    test_cfg=dict(mode="slide", crop_size=({side}, {side}), stride=({stride}, {stride})),
"""

TRAINING = '''"""FCN-8s on the data set in this folder, {training.weights} ImageNet weights.

{train_it}
{test_it}
"""

_base_ = [
    "{bases}/_base_/models/{training.model}.py",
    "dataset.py",
    "{bases}/_base_/schedules/{training.schedule}.py",
    "{bases}/_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size={crop}),
    decode_head=dict(num_classes={num_classes}),
{slide})
optim_wrapper = dict(optimizer=dict(lr={training.rate}))
max_iters = {iters}
train_cfg = dict(max_iters=max_iters, val_interval={tenth})
param_scheduler = [
    dict(_base_.param_scheduler[0], end={tenth}),
    dict(_base_.param_scheduler[1], begin={tenth}, end=max_iters),
]
default_hooks = dict(checkpoint=dict(interval={tenth}))
'''


class Training(NamedTuple):
    """What differs between the two trainings."""

    weights: str
    model: str
    schedule: str
    rate: float
    least: int  # iterations


EPOCHS = 100  # passes over the training images
# The keys are config names, filled in with the data set's name. The rate in sgd_40k is for batches
# twice as large.
TRAININGS = {
    "fcn8s_vgg16_{}": Training("from", "fcn8s_vgg16", "sgd_40k", 1e-3, 2000),
    "fcn8s_vgg16-bn_{}-scratch": Training(
        "without", "fcn8s_vgg16-bn_narrow", "adamw_scratch", 2e-3, 400
    ),
}


class Facts(NamedTuple):
    """The facts about a data set that its configs need."""

    root: Path
    classes: list[str]
    palette: list[list[int]]
    suffix: str  # of the images
    sizes: list[Size]
    scale: float  # factor by which images are resized
    images: int  # number of training images
    test: bool | None  # whether all test images have labels; None without test images

    @property
    def size(self) -> Size:
        """The median height and width of the images, resized."""
        height, width = (
            max(1, round(statistics.median(sides) * self.scale))
            for sides in zip(*self.sizes, strict=True)
        )
        return height, width

    def advice(self) -> str:
        """A line for the user if the network sees little of a picture at once; else empty."""
        longest = max(self.size)
        if longest <= LONG:
            return ""
        less = self.scale * WINDOW / longest
        return (
            f"{self.root}: the network sees {FIELD} pixels at once, but images are {longest:,} "
            f"pixels long; if it sees too little, prepare them with --scale {less:.2g}"
        )


def configs(facts: Facts) -> dict[str, str]:
    """The text of each config by file name; the last two are those to train with."""
    name = re.sub(r"[^\w-]+", "-", facts.root.resolve().name).strip("-") or "own"
    height, width = facts.size
    rows, cols = max(facts.sizes, key=lambda size: size[0] * size[1])
    slide = SLIDE.format(size=f"{cols} x {rows}", side=WINDOW, stride=WINDOW * 3 // 4)
    common: dict[str, Any] = dict(
        bases=bases_from(facts.root),
        classes=_lines(facts.classes),
        palette=_lines(facts.palette),
        num_classes=len(facts.classes),
        suffix=facts.suffix,
        scale=float(facts.scale),
        crop=(min(height, LARGEST_CROP), min(width, LARGEST_CROP)),
        windows=WINDOWS if rows * cols > LARGE else "",
        slide=slide if rows * cols * facts.scale**2 > LARGE else "",
        test="",
    )
    if facts.test is not None:
        images = "" if facts.test else ', data_prefix=dict(img_path="JPEGImages")'
        ann_file = '"ImageSets/Segmentation/test.txt"'
        common["test"] = f"splits = dict(test=dict(ann_file={ann_file}{images}))\n"
    texts = {"dataset.py": DATASET.format_map(common)}
    for pattern, training in TRAININGS.items():
        stem = pattern.format(name)
        # Neither too few steps for the learning rate, nor too many.
        iters = min(max(EPOCHS * facts.images // BATCH, training.least), 40_000) // 100 * 100
        texts[f"{stem}.py"] = TRAINING.format_map(
            dict(
                **common,
                training=training,
                train_it=command("train", facts.root / f"{stem}.py"),
                test_it=command("test", facts.root / f"{stem}.py", f"work_dirs/{stem}"),
                iters=iters,
                tenth=iters // 10,
            )
        )
    return texts


def command(tool: str, *arguments: str | Path) -> str:
    """The command line that runs a tool, with all names quoted as a shell needs it."""
    texts = (text.as_posix() if isinstance(text, Path) else text for text in arguments)
    return shlex.join(["fcn-plugin", tool, *texts])


def bases_from(root: Path) -> str:
    """The path of the shipped configs, relative to ``root`` if both are in one clone."""
    shipped = shipped_configs()
    if root.resolve().is_relative_to(shipped.parent):
        return Path(os.path.relpath(shipped, root.resolve())).as_posix()
    return shipped.as_posix()


def _lines(items: list) -> str:
    return "".join(f"        {item!r},\n" for item in items)
