"""A user's own labelled pictures as a data set in VOC's layout, with configs to train on it.

``SOURCES`` says what kinds of folders are taken. The data set is made out of sight and moved into
place whole, so that an interrupted run is started again with the same command.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import in_full, pixel_counts, save_labels
from fcn_plugin.data.lists import list_text
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.data.picture_files import open_picture
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.prepare.own.classes import class_table, note_missing
from fcn_plugin.prepare.own.configs import Facts, command, configs
from fcn_plugin.prepare.own.labelme import embedded_image, labelme_source
from fcn_plugin.prepare.own.masks import mask_folders, mask_source
from fcn_plugin.prepare.own.source import Item, Size, Source, Tell, each
from fcn_plugin.prepare.own.split import LISTS, Splits, with_splits
from fcn_plugin.prepare.staging import stage_of
from fcn_plugin.system.files import disk_full
from fcn_plugin.system.locks import LOCK, only_one_at_work

# Written to the finished tree; a higher number when the same source gives another tree.
FORMAT = 2
MARKER = "own.json"
LOCK_PATIENCE = 2.0  # seconds
LARGEST_SCALE = 8
# Kept as they are, by Pillow's name; images in another format become PNG. MPO: JPEGs of phones.
KEPT_FORMATS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}

# how a folder is recognised, and what it is taken for
SOURCES: tuple[
    tuple[Callable[[Path], object], Callable[[Path, Path | None, Tell], Source]], ...
] = (
    (mask_folders, mask_source),
    (lambda folder: any(folder.glob("*.json")), labelme_source),
)


class Written(NamedTuple):
    """What became of an item."""

    name: str
    suffix: str  # of its image
    size: Size
    counts: np.ndarray  # [256] pixels of each value of its label; zeros without a label


def prepare_own(
    source: Path,
    root: Path,
    classes_file: Path | None = None,
    val: float = 0.2,
    seed: int = 0,
    scale: float = 1.0,
    tell: Tell | None = None,
) -> list[str]:
    """Make the data set ``root`` of the folder ``source``; a finished one is left as it is.

    ``JPEGImages``, ``SegmentationClass`` (index PNGs with a palette), ``ImageSets/Segmentation``
    with train.txt, val.txt and, if the source has test images, test.txt; ``classes.txt``,
    ``dataset.py`` and two configs. The split is the source's own; see ``with_splits``.

    Args:
        classes_file: Names of classes, one a line; see ``labelme_source`` and ``mask_source``.
        val: Share of the training images to score on, unless the source says which.
        seed: Another seed, other images in val. An image stays where it is when others are added,
            but for a few.
        scale: Factor by which the network sees images smaller or larger, in training and after.

    Returns:
        Lines to print: a table of the classes, and what there is now.

    Raises:
        UserError: a file is damaged, or does not fit the others; ``root`` is something else.
    """
    tell = tell or Tell()
    if not 0 < val < 1:
        raise UserError(f"--val {val}: give a share between 0 and 1, such as 0.2")
    if set('"\\\n') & set(str(root.resolve())):
        raise UserError(f"{root}: a quote or backslash in its name; choose another --root")
    if not (math.isfinite(scale) and 0 < scale <= LARGEST_SCALE):
        raise UserError(f"--scale {scale}: give a factor up to {LARGEST_SCALE}, such as 0.5")
    found = open_source(source, classes_file, tell)
    found, splits = with_splits(source, found, val, seed, tell)
    state = _state(found, splits, scale)
    if (lines := _finished(root, state)) is not None:
        return lines
    stage = stage_of(root)
    with only_one_at_work(stage, LOCK_PATIENCE):
        if (lines := _finished(root, state)) is not None:  # by the run that had the lock before
            return lines
        try:
            _clear(stage)
            with disk_full(stage):
                lines = _write(found, splits, scale, stage, root, tell)
                marker = {"state": state, "lines": lines}
                (stage / MARKER).write_text(json.dumps(marker) + "\n")
            stage.replace(root.resolve())
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
    return lines


# --- what there is -------------------------------------------------------------------------------


def open_source(folder: Path, classes_file: Path | None, tell: Tell) -> Source:
    """What kind of source a folder is.

    Raises:
        UserError: none, or it holds nothing that is labelled.
    """
    if not folder.is_dir():
        reason = "is a file; unpack it and give the folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {reason}")
    for recognised, opened in SOURCES:
        if recognised(folder):
            return opened(folder, classes_file, tell)
    raise UserError(
        f"{folder}: no labelled pictures; there should be *.json of labelme, or JPEGImages and "
        "SegmentationClass, or images and labels, with the files right in them and not deeper"
    )


def _state(source: Source, splits: Splits, scale: float) -> str:
    """A hash of all that decides how the data set comes out, by the files' times and sizes."""
    digest = hashlib.sha256(json.dumps([FORMAT, source.classes, splits, scale]).encode())
    files = {path for item in source.items for path in (item.image, item.annotation) if path}
    for path in sorted(files | set(source.settings)):
        status = path.stat()
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _finished(root: Path, state: str) -> list[str] | None:
    """The lines of the run that made ``root``; None if it is still to be made."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    try:
        marker = json.loads((root / MARKER).read_text())
        made, lines = marker["state"], list(marker["lines"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{root}: exists, and is no data set made by this command; choose another --root"
        ) from None
    if made != state:
        raise UserError(
            f"{root}: was made of other files or options than these; remove it (its configs, too), "
            "or choose another --root"
        )
    return lines


# --- what is made of it --------------------------------------------------------------------------


def _clear(stage: Path) -> None:
    """Remove what a killed run left."""
    for path in stage.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _write(
    source: Source, splits: Splits, scale: float, stage: Path, root: Path, tell: Tell
) -> list[str]:
    used = {name for names in splits.values() for name in names}
    items = [item for item in source.items if item.name in used]
    for folder in (Path("JPEGImages"), Path("SegmentationClass"), LISTS):
        (stage / folder).mkdir(parents=True)
    # A pixel that is left out is 255.
    palette = in_full(source.palette)
    write = partial(_write_item, read=source.read, palette=palette, target=stage)
    written = each("Writing images and labels", write, items, tell)
    _refuse_vanishing(written, scale)
    suffix = _one_format(stage, written, tell)
    for name, names in splits.items():
        (stage / LISTS / f"{name}.txt").write_text(list_text(names), encoding="utf-8")
    (stage / "classes.txt").write_text(list_text(source.classes), encoding="utf-8")
    owners = {name: of for of, names in splits.items() for name in names}
    by_split = {
        of: np.array([item.counts for item in written if owners[item.name] == of]) for of in splits
    }
    labelled = [counts.any() for counts in by_split.get("test", ())]
    if not all(labelled):
        del by_split["test"]
        if any(labelled):
            count = f"{sum(labelled):,} of {len(labelled):,} test images"
            tell.note(f"{root}: {count} have a label; without the others' none is scored")
    note_missing(root, source.classes, by_split["train"].sum(axis=0), tell)
    facts = Facts(
        root=root,
        classes=source.classes,
        palette=source.palette,
        suffix=suffix,
        sizes=[item.size for item in written],
        scale=scale,
        splits=splits,
        scores_test="test" in by_split,
    )
    texts = configs(facts)
    for file, text in texts.items():
        (stage / file).write_text(text, encoding="utf-8")
    if advice := facts.advice():
        tell.note(advice)
    counts = ", ".join(f"{name} {len(names):,}" for name, names in splits.items())
    *_, pretrained, scratch = texts
    seen = f"images are seen at {scale:g} of their size (--scale; scale in dataset.py)"
    return [
        class_table(source.classes, by_split),
        *([seen] if scale != 1 else []),
        f"from ImageNet weights: {command('train', root / pretrained)}",
        f"without them:          {command('train', root / scratch)}",
        f"{root}: {counts} images, {len(source.classes)} classes",
    ]


def _refuse_vanishing(written: Sequence[Written], scale: float) -> None:
    """Of a side, half a pixel has to be left in training, where it is halved again."""
    smallest = min(written, key=lambda item: min(item.size))
    if min(smallest.size) * scale < 1:
        size = width_by_height(smallest.size)
        raise UserError(f"--scale {scale:g}: {smallest.name} of {size} would have no pixel")


def _write_item(
    item: Item,
    read: Callable[[Item, Size], np.ndarray],
    palette: Sequence[Sequence[int]],
    target: Path,
) -> Written:
    suffix, size = _write_image(item, target / "JPEGImages")
    if item.annotation is None:
        return Written(item.name, suffix, size, np.zeros(IGNORED + 1, np.int64))
    label = read(item, size)
    save_labels(label, target / "SegmentationClass" / f"{item.name}.png", palette)
    return Written(item.name, suffix, size, pixel_counts(label))


def _write_image(item: Item, folder: Path) -> tuple[str, Size]:
    """Put the image there, after a look at all of it; its suffix there and its size upright."""
    part = folder / f"{item.name}.part"
    if item.image is None:
        part.write_bytes(embedded_image(item.file))
    else:
        shutil.copyfile(item.image, part)
    try:
        pixels = LoadCheckedImage().transform({"img_path": str(part)})["img"]
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(item.file))) from None
    with open_picture(part) as image:
        kept = KEPT_FORMATS.get(str(image.format))
    if kept:
        part.rename(folder / f"{item.name}{kept}")
    else:
        _save_png(pixels, folder / f"{item.name}.png")
        part.unlink()
    return kept or ".png", pixels.shape[:2]


def _save_png(bgr: np.ndarray, path: Path) -> None:
    Image.fromarray(np.ascontiguousarray(bgr[..., ::-1])).save(path)


def _one_format(stage: Path, written: Sequence[Written], tell: Tell) -> str:
    """The suffix of all images: the host wants one. If there are two, JPEGs become PNGs."""
    suffixes = {item.suffix for item in written}
    if len(suffixes) == 1:
        return suffixes.pop()
    jpegs = [stage / "JPEGImages" / f"{item.name}.jpg" for item in written if item.suffix == ".jpg"]
    each("Making all images PNG", _jpeg_to_png, jpegs, tell)
    tell.note(f"{len(jpegs):,} of {len(written):,} images are JPEG; all are PNG now")
    return ".png"


def _jpeg_to_png(path: Path) -> Path:
    _save_png(
        LoadCheckedImage().transform({"img_path": str(path)})["img"], path.with_suffix(".png")
    )
    path.unlink()
    return path
