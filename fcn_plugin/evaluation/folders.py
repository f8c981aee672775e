"""Confusion counts of two folders of label PNGs, predicted and true."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcn_plugin.data.labels import pixel_counts, read_label
from fcn_plugin.data.lists import read_ids
from fcn_plugin.data.numbering import VALUES
from fcn_plugin.errors import UserError, some, width_by_height
from fcn_plugin.evaluation.protocols import Protocol
from fcn_plugin.system.workers import on_all_cores

BLOCK = 1 << 20  # pixels; bounds the memory of counting, whatever an image's size
CHUNK = 8  # pairs of files that a worker takes at once, at most
TURNS = 8  # how often each worker takes some, at least, if there are enough
MAX_NAMED = 3


class Pair(NamedTuple):
    """The files of one image."""

    truth: Path
    prediction: Path


def matched(truth: Path, prediction: Path, ids: Path | None = None) -> list[Pair]:
    """The pairs of ``*.png`` of the same name right in the two folders.

    Args:
        truth, prediction: the folders; folders within them are not looked into.
        ids: a file with the names to score, without ``.png``, one a line; default: all there are.

    Raises:
        UserError: a folder or list is missing or empty, a name is listed twice, or a file of a
            pair is missing.
    """
    labels, predictions = _pngs(truth, "--truth"), _pngs(prediction, "--pred")
    if ids:
        names = others = _listed(ids)
        role = other_role = f"ids of {ids}"
        remedy = "add the files, or take them off the list"
    else:
        names, others = sorted(labels), sorted(predictions)
        role, other_role = "labels", "predictions"
        remedy = (
            "name the files alike, or give --list with the ids to score, such as "
            "ImageSets/Segmentation/val.txt"
        )
    for wanted, files, lack in (
        (names, predictions, f"{role} have no prediction in {prediction}"),
        (others, labels, f"{other_role} have no label in {truth}"),
    ):
        if missing := [name for name in wanted if name not in files]:
            number = f"{len(missing):,} of {len(wanted):,}"
            raise UserError(f"{number} {lack} ({some(missing, MAX_NAMED)}): {remedy}")
    return [Pair(labels[name], predictions[name]) for name in names]


def _pngs(folder: Path, option: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give {option} the folder of the label PNGs")
    files = {file.stem: file for file in folder.glob("*.png")}
    if not files:
        raise UserError(
            f"{folder}: no *.png right in it; give {option} the folder that holds the label PNGs"
        )
    return files


def _listed(file: Path) -> list[str]:
    if not file.is_file():
        raise UserError(f"{file}: no such list; give --list a file with one id a line")
    ids = read_ids(file)
    if not ids:
        raise UserError(f"{file}: the list is empty; write one id a line")
    name, times = Counter(ids).most_common(1)[0]
    if times > 1:
        raise UserError(f"{file}: {name} is listed {times} times; leave it there once")
    return ids


@dataclass
class Tally:
    """What has been counted in some pairs of files."""

    counts: np.ndarray = field(default_factory=lambda: np.zeros((VALUES, VALUES), np.int64))
    images: int = 0
    unclassed: int = 0  # images with a class predicted as none

    def __iadd__(self, other: "Tally") -> "Tally":
        self.counts += other.counts
        self.images += other.images
        self.unclassed += other.unclassed
        return self


def pair_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """``counts[truth, prediction]`` of pixels, int64 [256, 256], from uint8 arrays of one shape.

    >>> counts = pair_counts(np.uint8([[0, 0, 255]]), np.uint8([[0, 7, 7]]))
    >>> int(counts[0, 0]), int(counts[0, 7]), int(counts[255, 7]), int(counts.sum())
    (1, 1, 1, 3)
    """
    counts = np.zeros(VALUES * VALUES, np.int64)
    rows, columns = truth.ravel(), prediction.ravel()
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        joined = rows[block].astype(np.uint16) * VALUES + columns[block]
        counts += pixel_counts(joined, len(counts))
    return counts.reshape(VALUES, VALUES)


def _file_counts(pair: Pair, protocol: Protocol) -> np.ndarray:
    truth, prediction = (_read(file) for file in pair)
    if prediction.shape != truth.shape:
        sizes = f"{width_by_height(prediction.shape)} for a truth of {width_by_height(truth.shape)}"
        raise UserError(
            f"{pair.prediction}: prediction of {sizes}; predict every image at its own size"
        )
    counts = pair_counts(truth, prediction)
    protocol.check(counts, *pair)
    return counts


def _read(file: Path) -> np.ndarray:
    stored = read_label(file)
    if stored.dtype != np.uint8:
        raise UserError(f"{file}: label of more than 8 bits; save the class indices with 8")
    return stored


def counted(pairs: Sequence[Pair], protocol: Protocol, jobs: int) -> Iterator[Tally]:
    """Tallies of a few of the pairs each; their sum is the same for any number of processes.

    Raises:
        UserError: a file is damaged, in colour, of more than 8 bits, of another size than the
            truth, or holds a label that is illegal by ``protocol``.
    """
    size = min(CHUNK, -(-len(pairs) // (TURNS * jobs)))
    chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    return on_all_cores(partial(_tally, protocol=protocol), chunks, chunk=1, jobs=jobs)


def _tally(pairs: Sequence[Pair], protocol: Protocol) -> Tally:
    tally = Tally()
    for pair in pairs:
        counts = _file_counts(pair, protocol)
        unclassed = int(counts[np.ix_(protocol.labels, protocol.unclassed)].any())
        tally += Tally(counts, 1, unclassed)
    return tally
