"""The headline: the scores of a run or two, and what they mean in plain words."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fcn_plugin.evaluation.error_kinds import BORDER, INSIDE, INVENTED, KINDS, MISSED, NEAR
from fcn_plugin.evaluation.measures import LOWER_IS_BETTER, MEASURES
from fcn_plugin.evaluation.metric import FINAL
from fcn_plugin.evaluation.metric import SCORES as OURS
from fcn_plugin.evaluation.pictures import percent
from fcn_plugin.report.rendering import Number, joined
from fcn_plugin.report.run import Run
from fcn_plugin.report.sections.scored import Scored

# Title -> key in mmengine's logs.
SCORES = {
    "mean IU": "mIoU",
    "pixel accuracy": "aAcc",
    "mean accuracy": "mAcc",
    "frequency-weighted IU": "fwIoU",
    "final score (MIT)": "score",  # only if absent classes count as zero
    "mean Dice": "mDice",
    "mean precision": "mPrecision",
    "boundary IU": "mBIoU",
    "calibration error": "ECE",
}
NAMES = {**OURS, **FINAL, **MEASURES["boundary"], **MEASURES["confidence"]}
SURE = 0.01  # confidence and accuracy that differ less are called the same
WHERE = {
    MISSED: "belong to objects that are missed",
    BORDER: f"lie within {NEAR} pixels of a border",
    INVENTED: "belong to objects that are not there",
    INSIDE: "lie inside regions that are partly taken for something else",
}


def headline(runs: Sequence[Run], beside: Sequence[Scored | None]) -> list[dict[str, Any]]:
    """A row for each score that a run has, from its evaluation, else from its log.

    Args:
        beside: for each run, its evaluation.
    """
    rows = []
    for title, key in SCORES.items():
        numbers = [_score(run, one, key) for run, one in zip(runs, beside, strict=True)]
        if any(number.value is not None for number in numbers):
            row = dict(title=title, lower=NAMES[key] in LOWER_IS_BETTER, numbers=numbers)
            rows.append(dict(row, change=change(numbers), wins=None))
    return rows


def change(numbers: Sequence[Number]) -> Number:
    """From the first to the second, in points; None unless there are two."""
    values = [number.value for number in numbers if number.value is not None]
    return Number(values[1] - values[0] if len(values) > 1 else None, signed=True)


def shown(scored: Scored, key: str) -> bool:
    """Whether the page has this score of an evaluation."""
    return key not in FINAL or scored.evaluation.absent == "zero"


def _score(run: Run, scored: Scored | None, key: str) -> Number:
    """A score from the evaluation, else from the last validation in the log."""
    if scored is None:
        return Number(next(reversed(run.training.val.values()), {}).get(key))
    return scored.score(NAMES[key]) if shown(scored, key) else Number(None)


def in_words(scored: Scored) -> str:
    """Sentences about what is right and what is wrong; '' if nothing was scored."""
    return scored.start + " ".join(_sentences(scored)) if scored.measured("pixel_accuracy") else ""


def _sentences(scored: Scored) -> Iterator[str]:
    run, scores = scored.evaluation, scored.evaluation.scores
    yield f"{100 * scores['pixel_accuracy']:.1f} % of the pixels are right."
    ius = scores["class_iu"]
    lowest = [f"{run.classes[i]} ({100 * ius[i]:.1f} %)" for i in scored.lowest]
    if lowest:
        yield f"The lowest IU {'have' if len(lowest) > 1 else 'has'} {joined(lowest)}."
    kinds = run.total.get("kinds", np.zeros(len(KINDS)))
    if kinds.any():
        shares = dict(zip(KINDS, kinds / kinds.sum(), strict=True))
        order = sorted(KINDS, key=lambda kind: -shares[kind])
        parts = [f"{percent(shares[kind])} {WHERE[kind]}" for kind in order if shares[kind]]
        yield f"Of the wrong ones {joined(parts)}."
    if scored.measured("mean_confidence"):
        yield f"{sureness(scores)}."


def sureness(scores: dict[str, Any]) -> str:
    """Confidence against accuracy, in words."""
    sure, right = scores["mean_confidence"], scores["pixel_accuracy"]
    verdict = "it is about as sure as it is right"
    if abs(sure - right) >= SURE:
        verdict = f"it is {'over' if sure > right else 'under'}confident"
    return (
        f"The network says that it is {100 * sure:.1f} % sure on average, and is right in "
        f"{100 * right:.1f} %: {verdict}"
    )
