"""Count confusions between two folders of label PNGs, true and predicted."""

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
from fcn_plugin.evaluation.measures import NOTHING_MORE, WHOLE, Counts, Measures, summed
from fcn_plugin.evaluation.protocols import Protocol
from fcn_plugin.evaluation.scores import class_counts
from fcn_plugin.system.workers import on_all_cores

BLOCK = 1 << 20  # pixels to count at a time, so that large images need no more memory
CHUNK = 8  # pairs of files in one task of a worker, at most
TURNS = 8  # tasks per worker, at least, if there are enough pairs
MAX_NAMED = 3  # names in a message


class Pair(NamedTuple):
    """The true and the predicted label of one image."""

    truth: Path
    prediction: Path


def matched(truth: Path, prediction: Path, ids: Path | None = None) -> list[Pair]:
    """The pairs of ``*.png`` with the same name in the two folders.

    Args:
        truth, prediction: the folders; their subfolders are not searched.
        ids: a file with the names to score, without ``.png``, one per line; default: all names.

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
            f"{folder}: no *.png directly in it; give {option} the folder that holds the label PNGs"
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
    """The counts over some pairs of files.

    Attributes:
        counts: pixels [truth, prediction] by file value, int64 [256, 256].
        images: number of images.
        unclassed: images where a pixel of a class is predicted as ``protocol.unclassed``.
        measured: what was measured besides, by its name in ``measures``.
        by_image: ``regions`` and the measures of each image, if they were asked for.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros((VALUES, VALUES), np.int64))
    images: int = 0
    unclassed: int = 0
    measured: Counts = field(default_factory=dict)
    by_image: list[Counts] = field(default_factory=list)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.counts += other.counts
        self.images += other.images
        self.unclassed += other.unclassed
        self.measured = summed(self.measured, other.measured)
        self.by_image += other.by_image
        return self


def pair_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Pixels by ``[truth, prediction]``, int64 [256, 256], of two uint8 arrays of equal shape.

    >>> counts = pair_counts(np.uint8([[0, 0, 255]]), np.uint8([[0, 7, 7]]))
    >>> int(counts[0, 0]), int(counts[0, 7]), int(counts[255, 7]), int(counts.sum())
    (1, 1, 1, 3)
    """
    counts = np.zeros(VALUES * VALUES, np.int64)
    true, predicted = truth.ravel(), prediction.ravel()
    for start in range(0, len(true), BLOCK):
        block = slice(start, start + BLOCK)
        joined = true[block].astype(np.uint16) * VALUES + predicted[block]
        counts += pixel_counts(joined, len(counts))
    return counts.reshape(VALUES, VALUES)


def _read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    truth, prediction = (_read(file) for file in pair)
    if prediction.shape != truth.shape:
        sizes = f"{width_by_height(prediction.shape)} for a truth of {width_by_height(truth.shape)}"
        raise UserError(
            f"{pair.prediction}: prediction of {sizes}; predict every image at its own size"
        )
    return truth, prediction


def _read(file: Path) -> np.ndarray:
    stored = read_label(file)
    if stored.dtype != np.uint8:
        raise UserError(f"{file}: label of more than 8 bits; save the class indices with 8")
    return stored


def counted(
    pairs: Sequence[Pair],
    protocol: Protocol,
    jobs: int,
    measures: Measures = NOTHING_MORE,
    by_image: bool = False,
) -> Iterator[Tally]:
    """Tallies of a few pairs each; their sum does not depend on the number of processes.

    Args:
        measures: what is measured beside the pixels by label.
        by_image: keep the counts of each image, too.

    Raises:
        UserError: a file is damaged, in colour, of more than 8 bits, of another size than the
            truth, or holds a label that ``protocol`` forbids.
    """
    size = min(CHUNK, -(-len(pairs) // (TURNS * jobs)))
    chunks = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    tally = partial(_tally, protocol=protocol, measures=measures, by_image=by_image)
    return on_all_cores(tally, chunks, chunk=1, jobs=jobs)


def _tally(pairs: Sequence[Pair], protocol: Protocol, measures: Measures, by_image: bool) -> Tally:
    tally = Tally()
    for pair in pairs:
        files = _read_pair(pair)
        counts = pair_counts(*files)
        protocol.check(counts, *pair)
        unclassed = int(counts[np.ix_(protocol.labels, protocol.unclassed)].any())
        measured: Counts = {}
        if measures.of_label_maps:
            measured, _ = measures.of_maps(*protocol.indices(*files), len(protocol.classes))
        own = []
        if by_image:
            kept = {name: each for name, each in measured.items() if name not in WHOLE}
            own.append({"regions": class_counts(protocol.matrix(counts)), **kept})
        tally += Tally(counts, 1, unclassed, measured, own)
    return tally
