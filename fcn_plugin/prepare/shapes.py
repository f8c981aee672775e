"""A small data set of drawn shapes in VOC's layout; nothing is downloaded."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from fcn_plugin.data.labels import save_labels, voc_palette
from fcn_plugin.data.lists import list_text
from fcn_plugin.data.picture_files import save_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import MIN_SIZE, SIZE, SPLITS, draw
from fcn_plugin.system.machine import available_cores
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.staging import REMEDY, made_whole

# Stored in a finished data set; raise it when the same parameters give other pictures.
FORMAT = 1


def write_shapes(
    root: Path,
    train: int = 4000,
    val: int = 500,
    size: int = SIZE,
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Write the data set below ``root`` in VOC's layout; a finished one is left as it is.

    ``JPEGImages/*.jpg``, ``SegmentationClass/*.png`` (VOC palette) and
    ``ImageSets/Segmentation/{train,val}.txt``. ``root`` appears only when complete.

    Args:
        root: Folder to make; its parents are made too.
        train: Number of training images, at least 1.
        val: Number of validation images, at least 1.
        size: Side of the square images in pixels, at least 32; shapes grow with it.
        seed: Not negative. Image i of a split depends on seed, split, i and size alone.
        progress: Called for every image.

    Raises:
        UserError: a number out of range, or ``root`` holds something else.
    """
    parameters = {"format": FORMAT, "train": train, "val": val, "size": size, "seed": seed}
    for name, least in {"train": 1, "val": 1, "size": MIN_SIZE, "seed": 0}.items():
        if parameters[name] < least:
            raise UserError(f"{name}={parameters[name]}: give at least {least}")
    made_whole(root, "shapes.json", parameters, partial(_fill, parameters, progress))
    for folder in ("JPEGImages", "SegmentationClass"):
        count = sum(1 for _ in (root / folder).glob("*.*"))
        if count != train + val:
            raise UserError(f"{root / folder}: {count} files instead of {train + val}; {REMEDY}")


def _fill(parameters: dict[str, int], progress: Progress, root: Path) -> dict:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)

    def write(item: tuple[str, int, str]) -> None:
        split, index, name = item
        image, label = draw(parameters["seed"], split, index, parameters["size"])
        picture = root / "JPEGImages" / f"{name}.jpg"
        save_picture(Image.fromarray(image), picture, quality=95, subsampling=0)
        save_labels(label, root / "SegmentationClass" / f"{name}.png", voc_palette())

    items = [
        (split, index, f"{split}_{index:05d}")
        for split in SPLITS
        for index in range(parameters[split])
    ]
    # Threads: numpy and Pillow release the interpreter lock for most of the work. A fork is not
    # safe after torch's import, and a fresh process would import torch again.
    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            for done, _ in enumerate(pool.map(write, items), start=1):
                progress("Drawing shapes", done, len(items))
        except BaseException:  # also on an interrupt, do not draw the rest first
            pool.shutdown(cancel_futures=True)
            raise
    for split in SPLITS:
        names = [name for owner, _, name in items if owner == split]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(list_text(names))
    return {}
