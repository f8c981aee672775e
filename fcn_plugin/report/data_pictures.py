"""Choose the pictures of a data set that a page shows, and make small ones with their labels."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import PurePath
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.dataset import BaseDataset

from fcn_plugin.data.display import shown
from fcn_plugin.data.labels import pixel_counts
from fcn_plugin.data.numbering import IGNORED, numbering_of
from fcn_plugin.data.originals import load_sample
from fcn_plugin.engine.order import random_numbers
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.evaluation.drawing import percent
from fcn_plugin.report.data_facts import Picture, Split
from fcn_plugin.report.panels import labels_uri, picture_uri
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.workers import on_all_cores

SIDE = 320  # most pixels of the longer side
MOST, FEWEST = 40, 12  # pictures in the gallery
VISIBLE = 0.01  # share of a picture from which a class is seen without being searched for
AUGMENTED, DRAWS = 4, 3  # pictures, and how often each is augmented
MARGIN = 0.02  # around a marked region, as a share of the picture


class Chosen(NamedTuple):
    """A picture for the gallery, and the classes that it is there to show."""

    split: Split
    picture: Picture
    classes: tuple[int, ...]


def gallery(splits: Sequence[Split]) -> list[Chosen]:
    """Labelled pictures, one or more for each class, the rarest first; at most ``MOST``.

    Of a class it is the picture in which the class takes the largest share, a training picture if
    one shows it. If there are few classes, others follow, evenly spread.
    """
    shares = [split.counts / np.maximum(split.counts.sum(1, keepdims=True), 1) for split in splits]
    pixels = splits[0].counts[:, :-1].sum(0)
    chosen: dict[tuple[int, int], list[int]] = {}
    for index in np.argsort(pixels, kind="stable").tolist():
        if any(shares[split][row, index] >= VISIBLE for split, row in chosen):
            continue
        for split, of_class in enumerate(part[:, index] for part in shares):
            place = split, int(of_class.argmax()) if len(of_class) else 0
            if of_class.any():
                if place in chosen or len(chosen) < MOST:
                    chosen.setdefault(place, []).append(index)
                break
    rows = np.linspace(0, len(splits[0].labelled) - 1, FEWEST).astype(int) if shares[0].size else ()
    for row in map(int, rows):
        if len(chosen) < FEWEST:
            chosen.setdefault((0, row), [])
    return [
        Chosen(splits[split], splits[split].labelled[row], tuple(classes))
        for (split, row), classes in chosen.items()
    ]


def thumbnails(chosen: Sequence[Chosen]) -> Iterator[dict[str, Any]]:
    """What the page shows of each picture, in their order; made on all cores."""
    tasks = [
        (one.split.parts[one.picture.place[0]], one.picture.place[1], one.classes, one.split.name)
        for one in chosen
    ]
    return on_all_cores(_thumbnail, tasks, chunk=2)


def _thumbnail(task: tuple[BaseDataset, int, Sequence[int], str]) -> dict[str, Any]:
    part, index, classes, split = task
    results, meta = load_sample(part, index), part.metainfo
    title = f"{split}: {PurePath(results['img_path']).name}"
    picture = shown(results["img"], results.get("display_bands")).pixels
    return _figure(title, picture, results.get("gt_seg_map"), meta, classes)


def augmented(split: Split, seed: int, progress: Progress = silent) -> Iterator[dict[str, Any]]:
    """What the page shows of some training pictures after the whole pipeline, each several times.

    The random numbers follow from ``seed`` alone.

    Raises:
        UserError: the pipeline fails, or does not end by packing.
    """
    number, index = split.pictures[0].place
    bands = load_sample(split.parts[number], index).get("display_bands")
    draws = [(row, draw) for row in _rows(split) for draw in range(DRAWS)]
    for done, (row, draw) in enumerate(draws, start=1):
        with random_numbers(seed, row, draw):
            packed = split.dataset[row]
        if not isinstance(packed, dict) or not {"inputs", "data_samples"} <= packed.keys():
            raise UserError(
                f"{split.title}: its pipeline gives no inputs and data_samples; let it end with "
                "dict(type='PackSegInputs')"
            )
        sample = packed["data_samples"]
        label = sample.gt_sem_seg.data[0].numpy() if "gt_sem_seg" in sample else None
        image = np.moveaxis(packed["inputs"].numpy(), 0, -1)
        became = f"{width_by_height(sample.ori_shape)} to {width_by_height(image.shape)}"
        flipped = ", flipped" if sample.get("flip") else ""
        title = f"{PurePath(sample.img_path).name}: {became}{flipped}"
        yield _figure(title, shown(image, bands).pixels, label, split.meta)
        progress("Augmenting pictures", done, len(draws))


def _rows(split: Split) -> list[int]:
    """At most ``AUGMENTED`` indices in the data set, spread, of pictures that can be read."""
    count, paths = len(split.dataset), {picture.path for picture in split.pictures}

    def readable(row: int) -> bool:
        # Each wrapper counts in its own way; the path is what all tell of a sample.
        return str(split.dataset.get_data_info(row).get("img_path")) in paths

    starts = np.linspace(0, count - 1, AUGMENTED).astype(int).tolist()
    if not split.faults:
        return sorted(set(starts))
    following = (chain(range(start, count), range(start)) for start in starts)
    return sorted({next(filter(readable, rows)) for rows in following})


def _figure(
    title: str,
    picture: np.ndarray,
    label: np.ndarray | None,
    meta: Mapping[str, Any],
    classes: Sequence[int] = (),
) -> dict[str, Any]:
    """A small picture, its label in colours, the classes in it, and boxes around hidden ones.

    Args:
        picture: [H, W, 3] uint8, RGB.
        label: class indices [H, W].
        classes: stay visible, however small, and get a box if they are.
    """
    zoom = min(1.0, SIDE / max(picture.shape))
    height, width = (max(1, round(side * zoom)) for side in picture.shape[:2])
    small = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)
    figure = dict(title=title, width=width, height=height, picture=picture_uri(small))
    if label is None:
        return dict(figure, labels="", boxes=[], legend=[])
    label = np.minimum(label, IGNORED).astype(np.uint8)
    reduced = cv2.resize(label, (width, height), interpolation=cv2.INTER_NEAREST)
    boxes, counts = [], pixel_counts(label)
    for index in classes:
        mask = (label == index).astype(np.float32)
        reduced[cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA) > 0] = index
        if counts[index] < VISIBLE * label.size:
            boxes.append(_box(mask))
    counts = np.append(counts[: len(meta["classes"])], counts[len(meta["classes"]) :].sum())
    largest_first = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    legend = [(i, percent(counts[i] / label.size), i in classes) for i in largest_first]
    labels = labels_uri(reduced, meta["palette"], numbering_of(meta).numbers)
    return dict(figure, labels=labels, boxes=boxes, legend=legend)


def _box(mask: np.ndarray) -> dict[str, float]:
    """Where the largest region of a mask is, in percent of the picture, with a margin."""
    _, _, regions, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, width, height, _ = regions[1 + regions[1:, cv2.CC_STAT_AREA].argmax()]
    rows, columns = mask.shape
    x, right = max(0, left / columns - MARGIN), min(1, (left + width) / columns + MARGIN)
    y, bottom = max(0, top / rows - MARGIN), min(1, (top + height) / rows + MARGIN)
    return dict(left=100 * x, top=100 * y, width=100 * (right - x), height=100 * (bottom - y))
