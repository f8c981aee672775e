"""The headline: the scores of a run or two."""

from collections.abc import Sequence
from typing import Any

from fcn_plugin.evaluation.measures import LOWER_IS_BETTER, MEASURES
from fcn_plugin.evaluation.metric import FINAL
from fcn_plugin.evaluation.metric import SCORES as OURS
from fcn_plugin.report.rendering import Number
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
