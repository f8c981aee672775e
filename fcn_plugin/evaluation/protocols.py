"""The rules by which leaderboards score files of labels."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmseg.datasets import ADE20KDataset, PascalVOCDataset

from fcn_plugin.data.loading import ranges_in_words, values_in_words
from fcn_plugin.errors import UserError

LABELS = 256  # of 8 bits
REMEDIES = {
    "true": "--ignore INDEX if they are not to be scored, or class indices instead of colours",
    "predicted": "a class for every pixel, as class indices instead of colours",
}


@dataclass(frozen=True)
class Protocol:
    """A rule. ``counts[truth, prediction]`` below is int64 [256, 256], by the labels in the files.

    Attributes:
        classes: their names.
        first: label of the first class; the others follow it.
        ignored: truth that is never counted.
        unclassed: labels that may be predicted though they are no class; they are wrong.
        strict: whether predictions are checked on ignored truth, too.
        absent: what a class without any pixel does to the means, as for ``scores``.
        mean: what the leaderboard calls the mean IU.
        final: whether it ranks by the mean of pixel accuracy and mean IU.
    """

    name: str
    classes: tuple[str, ...]
    first: int
    ignored: int
    unclassed: tuple[int, ...]
    strict: bool
    absent: str
    mean: str
    final: bool

    @property
    def labels(self) -> range:
        """The labels of the classes."""
        return range(self.first, self.first + len(self.classes))

    def matrix(self, counts: np.ndarray) -> np.ndarray:
        """What ``scores`` takes: C x (C + number of ``unclassed``)."""
        return counts[np.ix_(self.labels, [*self.labels, *self.unclassed])]

    def check(self, counts: np.ndarray, truth: Path, prediction: Path) -> None:
        """Refuse a pair of files whose ``counts`` hold labels that cannot be.

        Raises:
            UserError: names the file, the labels with their pixels, and the remedy.
        """
        self._refuse_others(truth, counts.sum(1), {*self.labels, self.ignored}, "true")
        judged = counts if self.strict else counts[self.labels]
        allowed = {*self.labels, *self.unclassed}
        self._refuse_others(prediction, judged.sum(0), allowed, "predicted")

    def _refuse_others(self, file: Path, pixels: np.ndarray, labels: set[int], role: str) -> None:
        """Refuse ``file`` if ``pixels`` [256] has any of other labels than ``labels``."""
        allowed = np.isin(np.arange(LABELS), list(labels))
        (wrong,) = np.nonzero(np.where(allowed, 0, pixels))
        if len(wrong) == 0:
            return
        raise UserError(
            f"{file}: label values {values_in_words(wrong, pixels[wrong])}, but with --protocol "
            f"{self.name} and {len(self.classes)} classes only {ranges_in_words(allowed)} can be "
            f"{role}; give {self._more(wrong.tolist())}{REMEDIES[role]}"
        )

    def _more(self, wrong: list[int]) -> str:
        """The option that makes classes of ``wrong``, as far as they can be."""
        possible = [label for label in wrong if not self.first <= self.ignored <= label]
        number = max(possible, default=0) - self.first + 1
        return f"--num-classes {number} if they are classes, or " if possible else ""


PROTOCOLS = {
    # The devkit's VOCevalseg.m and FCN's score.py.
    "voc": Protocol(
        name="voc",
        classes=tuple(PascalVOCDataset.METAINFO["classes"]),
        first=0,
        ignored=255,
        unclassed=(),
        strict=True,
        absent="skip",
        mean="mean IU",
        final=False,
    ),
    # demoEvaluation.m of CSAILVision/sceneparsing, the code of the ADE20K challenge.
    "mit": Protocol(
        name="mit",
        classes=tuple(ADE20KDataset.METAINFO["classes"]),
        first=1,
        ignored=0,
        unclassed=(0,),
        strict=False,
        absent="zero",
        mean="mean IoU",
        final=True,
    ),
}


def protocol(name: str, num_classes: int | None = None, ignored: int | None = None) -> Protocol:
    """A row of ``PROTOCOLS``, for other classes (then named by number) or other ignored truth.

    Raises:
        UserError: labels of 8 bits cannot hold the classes, or one of them would be ignored.
    """
    chosen = PROTOCOLS[name]
    if num_classes is not None and num_classes != len(chosen.classes):
        labels = range(chosen.first, chosen.first + num_classes)
        chosen = replace(chosen, classes=tuple(str(label) for label in labels))
    if ignored is not None:
        chosen = replace(chosen, ignored=ignored)
    labels = chosen.labels
    most = LABELS - chosen.first
    if not 1 <= len(labels) <= most:
        raise UserError(f"--num-classes {num_classes}: give 1 to {most}")
    if not 0 <= chosen.ignored < LABELS:
        raise UserError(f"--ignore {ignored}: give 0 to {LABELS - 1}")
    if chosen.ignored in labels:
        raise UserError(
            f"--ignore {chosen.ignored}: is one of the classes {labels[0]} to {labels[-1]}; give "
            "another, or another --num-classes"
        )
    return chosen
