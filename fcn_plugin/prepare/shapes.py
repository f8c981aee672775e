"""The shapes of ``drawing`` as a small data set in VOC's layout; nothing is downloaded."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from fcn_plugin.data.labels import save_labels, voc_palette
from fcn_plugin.data.picture_files import save_picture
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import MIN_SIZE, SIZE, SPLITS, draw
from fcn_plugin.system.files import disk_full

# Written to the finished tree; a higher number when the same parameters give other pictures.
FORMAT = 1
MARKER = "shapes.json"


def write_shapes(
    root: Path,
    train: int = 4000,
    val: int = 500,
    size: int = SIZE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the data set below ``root`` in VOC's layout; a finished one is left as it is.

    ``JPEGImages/*.jpg``, ``SegmentationClass/*.png`` (VOC palette) and
    ``ImageSets/Segmentation/{train,val}.txt``. ``root`` appears only when complete: the files are
    written to a folder beside it, which an interrupted run leaves behind and the next one takes up.

    Args:
        root: Folder to make; its parents are made too.
        train: Number of training images, at least 1.
        val: Number of validation images, at least 1.
        size: Side of the square images in pixels, at least 32; shapes grow with it.
        seed: Not negative. Image i of a split depends on seed, split, i and size alone.
        progress: Called with (images written, images in all) after every image.

    Raises:
        UserError: a number out of range, or ``root`` holds something else.
    """
    root = Path(root)
    parameters = {"format": FORMAT, "train": train, "val": val, "size": size, "seed": seed}
    for name, least in {"train": 1, "val": 1, "size": MIN_SIZE, "seed": 0}.items():
        if parameters[name] < least:
            raise UserError(f"{name}={parameters[name]}: give at least {least}")
    if _is_finished(root, parameters):
        return
    # With the parameters in the name, whatever lies there already is what would be written again.
    name = "-".join(f"{key}{value}" for key, value in parameters.items())
    partial = root.absolute().with_name(f".{root.absolute().name}.{name}.partial")
    try:
        with disk_full(root):
            _write_tree(partial, parameters, progress)
            partial.rename(root)
    except OSError:
        # Another process with the same parameters may have been first.
        if not _is_finished(root, parameters):
            raise


def _is_finished(root: Path, parameters: dict[str, int]) -> bool:
    """Whether ``root`` is this data set already; `UserError` when it is anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    remedy = "remove it or choose another root"
    try:
        found = dict(json.loads((root / MARKER).read_text()))
    except (OSError, TypeError, ValueError):
        raise UserError(f"{root}: exists and is not a finished shapes data set; {remedy}") from None
    if found != parameters:
        asked = ", ".join(f"{key}={value}" for key, value in parameters.items())
        made = ", ".join(f"{key}={value}" for key, value in found.items())
        raise UserError(f"{root}: was made with {made}, not with {asked}; {remedy}")
    total = parameters["train"] + parameters["val"]
    for folder in ("JPEGImages", "SegmentationClass"):
        count = sum(1 for _ in (root / folder).glob("*.*"))
        if count != total:
            raise UserError(f"{root / folder}: {count} files instead of {total}; {remedy}")
    return True


def _write_tree(
    root: Path, parameters: dict[str, int], progress: Callable[[int, int], None] | None
) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)

    def write(item: tuple[str, int, str]) -> None:
        split, index, name = item
        image, label = draw(parameters["seed"], split, index, parameters["size"])
        picture = root / "JPEGImages" / f"{name}.jpg"
        save_picture(Image.fromarray(image), picture, quality=95, subsampling=0)
        save_labels(label, root / "SegmentationClass" / f"{name}.png", voc_palette())

    def items() -> Iterator[tuple[str, int, str]]:
        for split in SPLITS:
            for index in range(parameters[split]):
                yield split, index, f"{split}_{index:05d}"

    total = sum(parameters[split] for split in SPLITS)
    # Threads, because numpy and Pillow release the interpreter lock for most of the work, and
    # because a fork after torch's import is not safe and a fresh process would import torch again.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for done, _ in enumerate(pool.map(write, items()), start=1):
                if progress is not None:
                    progress(done, total)
        except BaseException:  # an interrupt as well: do not draw the rest first
            pool.shutdown(cancel_futures=True)
            raise
    for split in SPLITS:
        names = [name for owner, _, name in items() if owner == split]
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(names) + "\n")
    (root / MARKER).write_text(json.dumps(parameters) + "\n")
