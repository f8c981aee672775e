"""Configs for a user's own data set: files of Python beside it that tools/train.py takes."""

import os
import re
import shlex
import statistics
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.prepare.own.config_texts import DATASET, RECIPES, SLIDE, WINDOWS
from fcn_plugin.prepare.own.source import Size

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
    package = Path(__file__).resolve().parents[2]
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
