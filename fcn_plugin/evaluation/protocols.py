"""The rules of leaderboards for scoring label files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmseg.datasets import ADE20KDataset, PascalVOCDataset

from fcn_plugin.data.labels import ranges_in_words, values_in_words
from fcn_plugin.data.numbering import IGNORED, VALUES, metainfo_of, numbering_of
from fcn_plugin.data.tasks import meta_of
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.scores import Absent
from fcn_plugin.system.configs import one_or_many, type_name

REMEDIES = {
    "true": "--ignore INDEX if they are not to be scored, or class indices instead of colours",
    "predicted": "a class for every pixel, as class indices instead of colours",
}


@dataclass(frozen=True)
class Protocol:
    """How label files are scored. ``counts[truth, prediction]`` are int64 [256, 256] by file value.

    Attributes:
        name: name of the leaderboard, or file name of the config.
        classes: names of the classes.
        labels: value of each class in the files.
        ignored: true labels that are never counted.
        unclassed: labels of no class that may be predicted, and count as wrong.
        others: pairs (other, label): ``other`` means the same class as ``label``.
        strict: whether predictions on ignored pixels must be legal, too.
        absent: what a class without any pixel does to the means, as in ``scores``.
        mean: the leaderboard's name for the mean IU.
        final: whether it ranks by the mean of pixel accuracy and mean IU.
    """

    name: str
    classes: tuple[str, ...]
    labels: Sequence[int]
    ignored: tuple[int, ...]
    unclassed: tuple[int, ...] = ()
    others: tuple[tuple[int, int], ...] = ()
    strict: bool = True
    absent: Absent = "skip"
    mean: str = "mean IU"
    final: bool = False

    def matrix(self, counts: np.ndarray) -> np.ndarray:
        """The input of ``scores``: [C, C + number of ``unclassed``]."""
        counts = counts.copy()
        counts[list(self.ignored)] = 0
        for other, label in self.others:
            counts[label] += counts[other]
            counts[:, label] += counts[:, other]
        return counts[np.ix_(self.labels, [*self.labels, *self.unclassed])]

    def indices(self, truth: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A pair of files, [H, W], as class indices; what is no class, or ignored, is beyond them.

        The one value is for predictions of no class, the other for ignored truth.
        """
        classes = len(self.classes)
        dtype = np.uint8 if classes < 255 else np.uint16
        table = np.full(VALUES, classes, dtype)
        table[list(self.labels)] = range(classes)
        for other, label in self.others:
            table[other] = table[label]
        of_truth = table.copy()
        of_truth[list(self.ignored)] = np.iinfo(dtype).max
        return of_truth[truth], table[prediction]

    def check(self, counts: np.ndarray, truth: Path, prediction: Path) -> None:
        """Check the ``counts`` of a pair of files for illegal labels.

        Raises:
            UserError: there are some; it names the file, labels, pixels and remedy.
        """
        classes = {*self.labels, *(other for other, _ in self.others)}
        self._refuse_others(truth, counts.sum(1), {*classes, *self.ignored}, "true")
        judged = counts if self.strict else counts[sorted(classes)]
        self._refuse_others(prediction, judged.sum(0), {*classes, *self.unclassed}, "predicted")

    def _refuse_others(self, file: Path, pixels: np.ndarray, legal: set[int], role: str) -> None:
        """Raise an error if ``pixels`` [256] counts any label that is not ``legal``."""
        counts = enumerate(pixels.tolist())
        wrong = {label: count for label, count in counts if count and label not in legal}
        if wrong:
            option = "--protocol" if self.name in PROTOCOLS else "--config"
            raise UserError(
                f"{file}: label values {values_in_words(wrong)}, but with {option} {self.name} and "
                f"{len(self.classes)} classes only {ranges_in_words(legal)} are legal {role} "
                f"labels; give {self._remedy([*wrong], role)}"
            )

    def _remedy(self, wrong: list[int], role: str) -> str:
        """Advise more classes, if ``wrong`` labels can be classes, or other files."""
        if self.name not in PROTOCOLS:
            return "the config of their data set, or class indices instead of colours"
        (ignored,), first = self.ignored, self.labels[0]
        possible = [label for label in wrong if label >= first and not first <= ignored <= label]
        number = max(possible, default=0) - first + 1
        more = f"--num-classes {number} if they are classes, or " if possible else ""
        return more + REMEDIES[role]


PROTOCOLS = {
    # VOCevalseg.m of VOC's devkit, and FCN's score.py.
    "voc": Protocol("voc", tuple(PascalVOCDataset.METAINFO["classes"]), range(21), ignored=(255,)),
    # demoEvaluation.m of CSAILVision/sceneparsing, the code of the ADE20K challenge.
    "mit": Protocol(
        name="mit",
        classes=tuple(ADE20KDataset.METAINFO["classes"]),
        labels=range(1, 151),
        ignored=(0,),
        unclassed=(0,),
        strict=False,
        absent="zero",
        mean="mean IoU",
        final=True,
    ),
}


def protocol(
    name: str,
    num_classes: int | None = None,
    ignored: int | None = None,
    first: int | None = None,
) -> Protocol:
    """A rule of ``PROTOCOLS``, adapted to other classes or another ignored label.

    Args:
        num_classes: number of classes; other classes than the rule's are named by number.
        ignored: true label that is not counted.
        first: label of the first class; the others follow it.

    Raises:
        UserError: labels of 8 bits cannot hold the classes, or one of them would be ignored.
    """
    rule = PROTOCOLS[name]
    start = rule.labels[0] if first is None else first
    count = len(rule.classes) if num_classes is None else num_classes
    (void,) = rule.ignored if ignored is None else (ignored,)
    if not 0 <= start < VALUES:
        raise UserError(f"--first {first}: give 0 to {VALUES - 1}")
    if not 1 <= count <= VALUES - start:
        raise UserError(f"--num-classes {num_classes}: give 1 to {VALUES - start}")
    if not 0 <= void < VALUES:
        raise UserError(f"--ignore {ignored}: give 0 to {VALUES - 1}")
    labels = range(start, start + count)
    if void in labels:
        raise UserError(
            f"--ignore {void}: is one of the classes {labels[0]} to {labels[-1]}; give "
            "another, or another --num-classes"
        )
    return replace(
        rule,
        labels=labels,
        classes=rule.classes if labels == rule.labels else tuple(map(str, labels)),
        ignored=(void,),
        unclassed=tuple(set(rule.unclassed) - {*labels}),
    )


def protocol_of(cfg: Config, task: str | None = None) -> Protocol:
    """The rule of a config's test metric, for label files in its data set's own numbers.

    Args:
        task: for the labels of this further task, see ``fcn_plugin.data.tasks``.

    Raises:
        UserError: the class names are unknown, or the data set has no such task.
    """
    meta = meta_of(metainfo_of(cfg.test_dataloader.dataset), task)
    name = Path(str(cfg.filename)).name
    if not meta.get("classes"):
        raise UserError(
            f"{name}: nothing names the classes; set metainfo=dict(classes=(...)) of "
            "test_dataloader.dataset"
        )
    evaluators = [m for m in one_or_many(cfg.get("test_evaluator")) if m.get("task") == task]
    metrics = {type_name(each): each for each in reversed(evaluators)}
    metric = metrics.get("ConfusionMatrixMetric") or metrics.get("IoUMetric") or {}
    void = {IGNORED, metric.get("ignore_index", IGNORED)}
    labels = numbering_of(meta).numbers
    values = [*enumerate(numbering_of(meta).meaning.tolist())]
    absent, value = metric.get("absent", "skip"), metric.get("nan_to_num")
    return replace(
        PROTOCOLS["mit" if absent == "zero" else "voc"],
        name=name,
        classes=tuple(meta["classes"]),
        labels=labels,
        absent=absent if value is None else value,
        ignored=tuple(value for value, index in values if index in void),
        unclassed=(),
        others=tuple(
            (value, labels[index])
            for value, index in values
            if index < len(labels) and value != labels[index]
        ),
    )
