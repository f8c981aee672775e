"""Render the HTML page about one run or two."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.intervals import Intervals
from fcn_plugin.evaluation.metric import FINAL
from fcn_plugin.evaluation.metric import SCORES as OURS
from fcn_plugin.evaluation.pictures import percent
from fcn_plugin.report.charts import STYLES, chart
from fcn_plugin.report.evaluation import Evaluation
from fcn_plugin.report.examples import groups, key
from fcn_plugin.report.logs import Training
from fcn_plugin.report.panels import shares_uri
from fcn_plugin.report.rendering import NONE, Number, hex_colour, in_percent, rendered
from fcn_plugin.report.run import Run, settings

# Title -> key in mmengine's logs.
SCORES = {
    "mean IU": "mIoU",
    "pixel accuracy": "aAcc",
    "mean accuracy": "mAcc",
    "frequency-weighted IU": "fwIoU",
    "final score (MIT)": "score",  # only if absent classes count as zero
}
CURVES = {"loss": "loss", "learning rate": "lr", "mean IU, validation": "mIoU"}
WORST = 3  # most classes marked as worst
MISTAKEN = 2  # most frequent wrong predictions listed for a class
PAIRS = 12  # most pairs of confused classes
WHOLE_MATRIX = 40  # most classes of a matrix shown as a table; larger ones are pictures
MATRIX_SIDE = 600  # approximate pixels of a matrix shown as a picture
ROWS = 25  # most rows of the table of numbers behind the curves


def check_target(file: Path) -> None:
    """Refuse a folder as the page's file, before time is spent on scoring."""
    if file.is_dir():
        raise UserError(f"{file}: a folder; name the page, such as {file / 'report.html'}")


def page(runs: Sequence[Run]) -> str:
    """The HTML page about one run, or about two side by side.

    Raises:
        UserError: the two runs have different classes.
    """
    names = [runs[0].name]
    if len(runs) > 1:  # two may have the same name
        names = [f"{letter}: {run.name}" for letter, run in zip("AB", runs, strict=True)]
    scored = [run.evaluation for run in runs if run.evaluation]
    if len({tuple(evaluation.classes) for evaluation in scored}) > 1:
        raise UserError(f"{' and '.join(names)} have different classes; make a page of each alone")
    last = max(run.training.last_step for run in runs)
    charts = (
        chart(title, [(n, r.training.curve(log)) for n, r in zip(names, runs, strict=True)], last)
        for title, log in CURVES.items()
    )
    return rendered(
        "page.html",
        names=names,
        scored=scored,
        headline=_headline(runs),
        notes=[*_notes(names, runs), *_comparison_notes(scored)],
        intervals=list(dict.fromkeys(run.intervals.text for run in runs if run.intervals)),
        classes=_class_rows(scored, [run.intervals for run in runs if run.evaluation]),
        confusions=[_confusion(evaluation) for evaluation in scored],
        charts=[drawn for drawn in charts if drawn],
        line_colours=[style["color"] for style in STYLES],
        numbers=[_numbers(run.training) for run in runs],
        examples=groups(scored),
        differences=_differences(runs) if len(runs) > 1 else [],
        origins=[_origin(run) for run in runs],
    )


# --- scores --------------------------------------------------------------------------------------


def _change(numbers: Sequence[Number]) -> Number:
    values = [number.value for number in numbers if number.value is not None]
    return Number(values[1] - values[0] if len(values) > 1 else None, signed=True)


def _headline(runs: Sequence[Run]) -> list[dict[str, Any]]:
    rows = {title: [_score(run, title) for run in runs] for title in SCORES}
    return [
        dict(title=title, numbers=numbers, change=_change(numbers))
        for title, numbers in rows.items()
        if any(number.value is not None for number in numbers)
    ]


def _score(run: Run, title: str) -> Number:
    """A score from the evaluation, else from the last validation in the log."""
    logged = SCORES[title]
    if run.evaluation is None:
        last = next(reversed(run.training.val.values()), {})
        return Number(last.get(logged))
    attribute = {**OURS, **FINAL}[logged]
    if logged in FINAL and run.evaluation.absent != "zero":
        return Number(None)
    bounds = run.intervals.scores[attribute] if run.intervals else None
    return in_percent(run.evaluation.scores[attribute], bounds)


def _notes(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    notes = []
    for name, run in zip(names, runs, strict=True):
        run_notes = list(run.notes)
        total, last = (run.cfg.get("train_cfg") or {}).get("max_iters"), run.training.last_step
        if total and 0 < last < total:
            run_notes.append(
                f"The logs end at iteration {last:,} of {total:,}: the run is going on, or was "
                "interrupted."
            )
        if run.evaluation is None and run.training.val:
            run_notes.append(
                "The scores are those of the last validation in the log, at iteration "
                f"{list(run.training.val)[-1]:,}."
            )
        notes += [f"{name}: {note}" if len(runs) > 1 else note for note in run_notes]
    return notes


def _comparison_notes(scored: Sequence[Evaluation]) -> list[str]:
    notes = []
    if len({tuple(map(key, evaluation.images)) for evaluation in scored}) > 1:
        notes.append("The two were scored on different images; mind that in every difference.")
    if len({evaluation.absent for evaluation in scored}) > 1:
        notes.append("The two follow different rules for classes that are absent.")
    return notes


# --- classes -------------------------------------------------------------------------------------


def _class_rows(
    scored: Sequence[Evaluation], intervals: Sequence[Intervals | None]
) -> list[dict[str, Any]]:
    if not scored:
        return []
    scores, first = [evaluation.scores for evaluation in scored], scored[0]
    share = first.matrix.sum(1) / max(first.matrix.sum(), 1)
    own = scores[0]["class_iu"]
    order = [i for i in np.argsort(own) if not math.isnan(own[i])]
    worst = set(order[: min(WORST, len(order) // 2)])
    rows = []
    for i, name in enumerate(first.classes):
        ius = [
            in_percent(score["class_iu"][i], found.arrays["class_iu"][i] if found else None)
            for score, found in zip(scores, intervals, strict=True)
        ]
        rows.append(
            dict(
                number=first.numbers[i],
                name=name,
                colour=hex_colour(first.palette[i]),
                ius=ius,
                accuracies=[in_percent(score["class_accuracy"][i]) for score in scores],
                share=in_percent(share[i]),
                change=_change(ius),
                worst=i in worst,
                mistaken=_mistaken(first.matrix[i], i, first.classes),
            )
        )
    return rows


def _mistaken(row: np.ndarray, truth: int, classes: Sequence[str]) -> str:
    """The classes most often predicted instead of ``truth``, with their shares."""
    others = (i for i in np.argsort(-row, kind="stable") if i != truth and row[i])
    return ", ".join(
        f"{classes[i]} {percent(row[i] / row.sum())}" for i in islice(others, MISTAKEN)
    )


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """The confusion matrix in shares of each row, and the most confused pairs."""
    matrix, classes = evaluation.matrix, evaluation.classes
    with np.errstate(invalid="ignore"):
        shares = matrix / matrix.sum(1, keepdims=True)
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    titles = [f"{number} {name}" for number, name in zip(evaluation.numbers, classes, strict=True)]
    pairs = []
    for i, j in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if wrong[i, j]:
            shown = dict(share=percent(shares[i, j]), pixels=f"{wrong[i, j]:,}")
            pairs.append(dict(truth=titles[i], prediction=titles[j], **shown))
    whole = len(classes) <= WHOLE_MATRIX
    rows = [[None if math.isnan(share) else share for share in row] for row in shares.tolist()]
    return dict(
        titles=titles,
        rows=rows if whole else [],
        picture="" if whole else shares_uri(shares, max(1, MATRIX_SIDE // len(classes))),
        pairs=pairs,
    )


# --- curves, config, versions --------------------------------------------------------------------


def _numbers(training: Training) -> list[dict[str, str]]:
    """Loss, learning rate and mean IU at validations, or at iterations if there were none."""
    steps = list(training.val) or list(training.train)
    rows = []
    for step in steps[:: max(1, -(-len(steps) // ROWS))]:
        before = max((logged for logged in training.train if logged <= step), default=step)
        values = {**training.train.get(before, {}), **training.val.get(step, {})}
        texts = {log: f"{values[log]:.4g}" if log in values else NONE for log in CURVES.values()}
        rows.append(dict(step=f"{step:,}", **texts))
    return rows


def _differences(runs: Sequence[Run]) -> list[dict[str, str]]:
    first, second = (settings(run.cfg) for run in runs)
    return [
        dict(name=name, first=first.get(name, NONE), second=second.get(name, NONE))
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def _origin(run: Run) -> dict[str, Any]:
    training = run.training
    trained = {}
    if training.sessions:
        trained["took (h:mm:ss)"] = training.duration
        trained["last iteration logged"] = f"{training.last_step:,}"
        trained |= training.environment
    scored = run.evaluation.facts if run.evaluation else {}
    return dict(config=run.cfg.pretty_text, trained=trained, scored=scored)
