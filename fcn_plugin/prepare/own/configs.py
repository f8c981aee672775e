"""Configs for a user's own data set: Python files in its folder, to be given to fcn-plugin train.

They hold only what differs from the shipped configs, such as ``configs/_base_/datasets/own.py``.
"""

import re
import shlex
import statistics
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from fcn_plugin.data.band_statistics import BandStatistics
from fcn_plugin.data.bands import LoadBands
from fcn_plugin.prepare.own.budget import BATCH, MANY, STRIDE, Cost, Machine, Plan, crop_size
from fcn_plugin.prepare.own.source import Size
from fcn_plugin.prepare.own.templates import (
    BANDS,
    DATASET,
    HEAD,
    LOAD_BANDS,
    LOAD_PHOTO,
    PHOTO,
    SLIDE,
    TRAINING,
    WEIGHTED_HEAD,
    WINDOWS,
)
from fcn_plugin.system.configs import bases_from
from fcn_plugin.system.download import why_unreachable
from fcn_plugin.weights.pretrained import cached_file
from fcn_plugin.weights.sources import SOURCES

# Pictures of more than LARGE pixels are trained on in windows, and predicted in windows with a side
# of WINDOW pixels that overlap by a quarter.
LARGE, WINDOW = 1_500_000, 1024
# Side in pixels of what FCN-8s on VGG16 sees at once; little for pictures longer than LONG pixels.
FIELD, LONG = 404, 2048

EARLY = "Ends the training when mIoU has not risen by 0.1 in 3 scorings."
NOT_EARLY = f"{EARLY} Off, since in a short training the last ones, at a low rate, are the best."


class Training(NamedTuple):
    """What differs between the two trainings."""

    weights: str
    model: str
    schedule: str
    rate: float  # for batches of BATCH
    cost: Cost


# The keys are config names, filled in with the data set's name. The rate in sgd_40k is for batches
# twice as large.
TRAININGS = {
    "fcn8s_vgg16_{}": Training(
        "from", "fcn8s_vgg16", "sgd_40k", 1e-3, Cost(2_400_000_000, 2500, 45, 100, 5)
    ),
    "fcn8s_vgg16-bn_{}-scratch": Training(
        "without",
        "fcn8s_vgg16-bn_narrow",
        "adamw_scratch",
        2e-3,
        Cost(700_000_000, 800, 2.5, 20, 0.8),
    ),
}
# What fcn8s_vgg16.py starts from.
IMAGENET = "torchvision://vgg16"
ANSWER = 3  # seconds to wait for the server that has it


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
    class_weights: list[float] | None = None  # of the loss; None: all alike
    bands: BandStatistics | None = None  # of the training images; None: three bands of 8 bits

    @property
    def name(self) -> str:
        """The data set's name in the names of its configs."""
        return re.sub(r"[^\w-]+", "-", self.root.resolve().name).strip("-") or "own"

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
    """The text of each config by file name, for this machine; the last two are to train with."""
    machine = Machine.here()
    crop = crop_size(facts.size, machine.largest_crop)
    rows, cols = max(facts.sizes, key=lambda size: size[0] * size[1])
    slide = SLIDE.format(size=f"{cols} x {rows}", side=WINDOW, stride=WINDOW * 3 // 4)
    common: dict[str, Any] = dict(
        bases=bases_from(facts.root),
        classes=_lines(facts.classes),
        palette=_lines(facts.palette),
        num_classes=len(facts.classes),
        suffix=facts.suffix,
        scale=float(facts.scale),
        crop=crop,
        crop_reason=_comment(_crop_reason(facts.size, machine)),
        windows=WINDOWS if rows * cols > LARGE else "",
        slide=slide if rows * cols * facts.scale**2 > LARGE else "",
        head=(WEIGHTED_HEAD if facts.class_weights else HEAD).format(
            num_classes=len(facts.classes), weights=facts.class_weights
        ),
        test="",
        **_image_texts(facts.bands, crop),
    )
    if facts.test is not None:
        images = "" if facts.test else ', data_prefix=dict(img_path="JPEGImages")'
        ann_file = '"ImageSets/Segmentation/test.txt"'
        common["test"] = f"splits = dict(test=dict(ann_file={ann_file}{images}))\n"
    texts = {"dataset.py": DATASET.format_map(common)}
    for pattern, training in TRAININGS.items():
        stem = pattern.format(facts.name)
        sizes = facts.size, facts.images, len(facts.classes), training.cost
        plan = Plan.of(*sizes, machine)
        texts[f"{stem}.py"] = TRAINING.format_map(
            dict(
                **common,
                training=training,
                train_it=command("train", facts.root / f"{stem}.py"),
                test_it=command("test", facts.root / f"{stem}.py", f"work_dirs/{stem}"),
                plan=plan,
                rate=training.rate * plan.batch / BATCH,
                rate_reason=_comment(
                    f"{training.rate:g} for batches of {BATCH}, in proportion for smaller ones."
                ),
                batch_reason=_comment(plan.batch_reason),
                iterations_reason=_comment(
                    plan.iterations_reason, *([] if machine.gpu else [_with_gpu(*sizes)])
                ),
                interval=plan.iterations // plan.validations,
                tenth=plan.iterations // 10,
                early_reason=_comment(EARLY if plan.iterations >= MANY else NOT_EARLY, indent=4),
                early="" if plan.iterations >= MANY else "# ",
                window=plan.iterations // 20,
                momentum=20 / plan.iterations,
            )
        )
    return texts


def _image_texts(bands: BandStatistics | None, crop: Size) -> dict[str, str]:
    """The parts of the configs that load and normalise images."""
    if bands is None:
        preprocessor = PHOTO.format(crop=crop)
        return dict(load_image=LOAD_PHOTO, after_crop="after_crop", preprocessor=preprocessor)
    shown = LoadBands(bands.bands, bands.dtype).display_bands
    mean, std = ([float(f"{value:.6g}") for value in values] for values in (bands.mean, bands.std))
    numbers = dict(bands=bands.bands, dtype=bands.dtype, mean=mean, std=std, display=shown)
    return dict(
        load_image=LOAD_BANDS.format_map(numbers),
        after_crop="bands_after_crop",
        preprocessor=BANDS.format(crop=crop, bands=bands.bands),
    )


def next_steps(facts: Facts) -> list[str]:
    """Lines with the commands to train; first the config from ImageNet weights if they are there.

    Where the training needs a download, waits a few seconds for the server's answer.
    """
    test = ["--test"] if facts.test else []
    pretrained, scratch = (
        command("train", facts.root / f"{pattern.format(facts.name)}.py", *test)
        for pattern in TRAININGS
    )
    file = cached_file(IMAGENET)
    reason = "" if file.is_file() else why_unreachable(SOURCES[IMAGENET].url, ANSWER)
    if not reason:
        return [
            f"Next, from ImageNet weights: {pretrained}",
            f"or without them:             {scratch}",
        ]
    return [
        f"Next, from random weights: {scratch}",
        f"ImageNet weights train better, but cannot be fetched ({reason}): bring "
        f"{SOURCES[IMAGENET].url} from another machine to {file}, or start from a file of VGG16 "
        "that you have (docs/own_data.md)",
        f"and then:                  {pretrained}",
    ]


def _crop_reason(size: Size, machine: Machine) -> str:
    height, width = size
    reason = "" if machine.gpu else ", since there is no GPU; 512 with one"
    return (
        f"In multiples of {STRIDE}, within the median picture, {width} x {height}, and at most "
        f"{machine.largest_crop}{reason}."
    )


def _with_gpu(size: Size, images: int, classes: int, cost: Cost) -> str:
    """What the config would say on a machine with a large GPU."""
    plan = Plan.of(size, images, classes, cost, Machine(True, 10**12, 1))
    return (
        f"With a GPU: crop_size={plan.crop}, batch_size={plan.batch}, "
        f"max_iters={plan.iterations:_}."
    )


def _comment(*paragraphs: str, indent: int = 0) -> str:
    """The texts as lines of a comment, without the last line's end."""
    start = " " * indent + "# "
    return "\n".join(
        textwrap.fill(text, 100, initial_indent=start, subsequent_indent=start)
        for text in paragraphs
    )


def command(tool: str, *arguments: str | Path) -> str:
    """The command line that runs a tool, with all names quoted as a shell needs it."""
    texts = (text.as_posix() if isinstance(text, Path) else text for text in arguments)
    return shlex.join(["fcn-plugin", tool, *texts])


def _lines(items: list) -> str:
    return "".join(f"        {item!r},\n" for item in items)
