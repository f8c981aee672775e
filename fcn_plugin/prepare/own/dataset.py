"""A user's own labelled pictures as a data set in VOC's layout, with configs to train on it.

``readers`` lists the kinds of folders that are read.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from fcn_plugin.data.band_statistics import BandStatistics, band_statistics
from fcn_plugin.data.bands import is_multiband, read_bands
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import in_full, pixel_counts, save_labels
from fcn_plugin.data.lists import list_text
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.data.picture_files import open_picture
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.evaluation.tables import class_table
from fcn_plugin.prepare.own.class_weights import median_frequency
from fcn_plugin.prepare.own.configs import Facts, configs, next_steps
from fcn_plugin.prepare.own.draw import drawn
from fcn_plugin.prepare.own.folder import MARKER
from fcn_plugin.prepare.own.labelme import embedded_image
from fcn_plugin.prepare.own.readers import read_source
from fcn_plugin.prepare.own.source import Item, Job, Size, Source, each
from fcn_plugin.prepare.own.split import LISTS, Splits, stated_splits
from fcn_plugin.prepare.own.unpacked import unpacked
from fcn_plugin.system.staging import made_whole

# Part of a finished data set's state; raise it when the same source gives another data set.
FORMAT = 5
LARGEST_SCALE = 8
USUAL = "one or three bands of 8 bits"
# Pillow's names of formats that are kept; other images become PNG. MPO: JPEGs of phones.
TIFF = ".tif"  # of images with more bands or bits
KEPT_FORMATS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}


class Written(NamedTuple):
    """The image and label written for an item."""

    name: str
    suffix: str  # of its image
    size: Size
    form: str  # its bands and dtype, if they are not three of 8 bits
    counts: np.ndarray  # [256] number of pixels of each label value; zeros without a label


def prepare_own(job: Job) -> list[str]:
    """Make the data set ``job.root`` from the folder ``job.folder``; a finished one stays.

    ``JPEGImages``, ``SegmentationClass`` (index PNGs with a palette), ``ImageSets/Segmentation``
    with train.txt, val.txt and, if the source has test images, test.txt; ``classes.txt``,
    ``dataset.py`` and two configs. For the split see ``stated_splits`` and ``drawn``.

    Returns:
        Lines to print: a table of the classes, the commands to train, and the numbers of images.

    Raises:
        UserError: an option is out of range; a file is damaged, or does not fit the others;
            ``job.root`` is something else.
    """
    if not 0 < job.val < 1:
        raise UserError(f"--val {job.val}: give a share between 0 and 1, such as 0.2")
    if set('"\\\n') & set(str(job.root.resolve())):
        raise UserError(f"{job.root}: a quote or backslash in its name; choose another --root")
    if not (math.isfinite(job.scale) and 0 < job.scale <= LARGEST_SCALE):
        raise UserError(f"--scale {job.scale}: give a factor up to {LARGEST_SCALE}, such as 0.5")
    with unpacked(job) as inside:
        source = read_source(inside)
        items, splits = stated_splits(source, inside)
        files = {path for item in items for path in (item.image, item.annotation) if path}
        files |= set(source.settings)
        if not job.folder.is_dir():  # what is unpacked has new times
            files = {file for file in files if not file.is_relative_to(inside.folder)}
            files.add(job.folder)
        state = {"state": _state(source, files, splits, job)}
        fill = partial(_fill, inside, source, items, splits)
        return list(made_whole(job.root, MARKER, state, fill)["lines"])


def _state(source: Source, files: Set[Path], splits: Splits, job: Job) -> str:
    """A hash of everything that determines the data set; files count by their times and sizes."""
    options = job.val, job.seed, job.scale, job.void, dict(job.renamed), job.class_weight
    digest = hashlib.sha256(json.dumps([FORMAT, source.classes.names, splits, options]).encode())
    for path in sorted(files):
        status = path.stat()
        digest.update(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _fill(
    job: Job, source: Source, items: Sequence[Item], splits: Splits, stage: Path
) -> dict[str, Any]:
    """Write all files but the marker; return its entry, the lines to print."""
    for folder in (Path("JPEGImages"), Path("SegmentationClass"), LISTS):
        (stage / folder).mkdir(parents=True)
    palette = in_full(source.classes.palette)  # labels have 255 for pixels that are left out
    write = partial(_write_item, read=source.read, palette=palette, target=stage)
    written = each("Writing images and labels", write, items, job)
    # Training may halve a side once more, and half a pixel has to remain.
    smallest = min(written, key=lambda item: min(item.size))
    if min(smallest.size) * job.scale < 1:
        size = width_by_height(smallest.size)
        raise UserError(f"--scale {job.scale:g}: {smallest.name} of {size} would have no pixel")
    suffix = _one_format(stage, written, job)
    if "val" not in splits:
        shown = {item.name: set(np.flatnonzero(item.counts[:IGNORED]).tolist()) for item in written}
        train, val = drawn({name: shown[name] for name in splits["train"]}, job)
        splits = {"train": train, "val": val, **{s: splits[s] for s in splits.keys() - {"train"}}}
    for split, names in splits.items():
        (stage / LISTS / f"{split}.txt").write_text(list_text(names), encoding="utf-8")
    (stage / "classes.txt").write_text(list_text(source.classes.names), encoding="utf-8")
    counts = _counts(written, splits, job)
    several = suffix == TIFF
    facts = Facts(
        root=job.root,
        classes=source.classes.names,
        palette=source.classes.palette,
        suffix=suffix,
        sizes=[item.size for item in written],
        scale=job.scale,
        images=len(splits["train"]),
        test="test" in counts if "test" in splits else None,
        class_weights=median_frequency(counts["train"][:, : len(source.classes.names)])
        if job.class_weight
        else None,
        bands=_measured(stage, items, splits["train"], job) if several else None,
    )
    for file, text in configs(facts).items():
        (stage / file).write_text(text, encoding="utf-8")
    if advice := facts.advice():
        job.note(advice)
    sizes = ", ".join(f"{split} {len(names):,}" for split, names in splits.items())
    of_bands = f" of {written[0].form}" if several else ""
    scaled = f"images are seen at {job.scale:g} of their size (--scale; scale in dataset.py)"
    return {
        "lines": [
            _class_table(source.classes.names, counts),
            *([scaled] if job.scale != 1 else []),
            f"{job.root}: {sizes} images{of_bands}, {len(source.classes.names)} classes",
            *next_steps(facts),
        ]
    }


def _measured(stage: Path, items: Sequence[Item], names: Sequence[str], job: Job) -> BandStatistics:
    """The statistics of the copied TIFFs of these names; errors name the user's own file."""
    copies = [stage / "JPEGImages" / f"{name}{TIFF}" for name in names]
    try:
        return band_statistics(copies, job.progress)
    except UserError as error:
        text, files = str(error), {item.name: item.file for item in items}
        for copy in copies:
            text = text.replace(str(copy), str(files[copy.stem]))
        raise UserError(text) from None


def _counts(written: Sequence[Written], splits: Splits, job: Job) -> dict[str, np.ndarray]:
    """For each split that is scored: [images, 256] number of pixels of each label value."""
    by_name = {item.name: item.counts for item in written}
    counts = {split: np.array([by_name[name] for name in names]) for split, names in splits.items()}
    # Published labels of test images may be void altogether.
    labelled = [image[:IGNORED].any() for image in counts.get("test", ())]
    if not all(labelled):
        del counts["test"]
        if any(labelled):
            images = f"{sum(labelled):,} of {len(labelled):,} test images"
            job.note(f"{job.root}: only {images} have a label, so none is scored")
    return counts


def _class_table(classes: Sequence[str], counts: dict[str, np.ndarray]) -> str:
    """A table with the number of images that show each class, and its share of all pixels.

    Args:
        counts: for each split, [images, 256] number of pixels of each label value.
    """
    pixels = sum(count.sum(axis=0) for count in counts.values())
    values = [*range(len(classes)), *([IGNORED] if pixels[IGNORED] else [])]
    columns: dict[str, list] = {"value": values}
    for split, count in counts.items():
        columns[split] = [(count[:, value] > 0).sum() for value in values]
    columns["pixels"] = [f"{100 * pixels[value] / pixels.sum():.2f} %" for value in values]
    return class_table([*classes, "(left out)"][: len(values)], columns)


def _write_item(
    item: Item,
    read: Callable[[Item, Size], np.ndarray],
    palette: Sequence[Sequence[int]],
    target: Path,
) -> Written:
    suffix, size, form = _write_image(item, target / "JPEGImages")
    if item.annotation is None:
        return Written(item.name, suffix, size, form, np.zeros(IGNORED + 1, np.int64))
    label = read(item, size)
    save_labels(label, target / "SegmentationClass" / f"{item.name}.png", palette)
    return Written(item.name, suffix, size, form, pixel_counts(label))


def _write_image(item: Item, folder: Path) -> tuple[str, Size, str]:
    """Copy an image and decode all of it.

    Returns:
        Its suffix in ``folder``, its upright size, and its form, see ``Written``.
    """
    part = folder / f"{item.name}.part"
    if item.image is None:
        part.write_bytes(embedded_image(item.file))
    else:
        shutil.copyfile(item.image, part)
    try:
        if is_multiband(part):
            pixels, _ = read_bands(part)
            part.rename(folder / f"{item.name}{TIFF}")
            form = f"{pixels.shape[2]} band{'s' * (pixels.shape[2] > 1)} of {pixels.dtype.name}"
            return TIFF, pixels.shape[:2], form
        pixels = LoadCheckedImage().transform({"img_path": str(part)})["img"]
    except UserError as error:
        raise UserError(str(error).replace(str(part), str(item.file))) from None
    with open_picture(part) as image:
        suffix = KEPT_FORMATS.get(str(image.format))
    if suffix:
        part.rename(folder / f"{item.name}{suffix}")
    else:
        _to_png(part, pixels)
    return suffix or ".png", pixels.shape[:2], ""


def _one_format(stage: Path, written: Sequence[Written], job: Job) -> str:
    """The suffix of all images: mmseg allows only one. If there are two, JPEGs become PNGs."""
    forms = {item.form: item.name for item in written}
    if len(forms) > 1:
        (one, first), (other, second) = list(forms.items())[:2]
        raise UserError(
            f"{job.folder}: the image {first} has {one or USUAL}, {second} {other or USUAL}; give "
            "images that are all alike"
        )
    suffixes = {item.suffix for item in written}
    if len(suffixes) == 1:
        return suffixes.pop()
    jpegs = [stage / "JPEGImages" / f"{item.name}.jpg" for item in written if item.suffix == ".jpg"]
    each("Making all images PNG", _jpeg_to_png, jpegs, job)
    job.note(f"{len(jpegs):,} of {len(written):,} images are JPEG; all are PNG now")
    return ".png"


def _jpeg_to_png(path: Path) -> None:
    _to_png(path, LoadCheckedImage().transform({"img_path": str(path)})["img"])


def _to_png(path: Path, bgr: np.ndarray) -> None:
    """Replace an image file by a PNG."""
    Image.fromarray(np.ascontiguousarray(bgr[..., ::-1])).save(path.with_suffix(".png"))
    path.unlink()
