"""One page of one run or two: what the template shows, as texts and data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from fcn_plugin.errors import UserError
from fcn_plugin.report.charts import chart
from fcn_plugin.report.evaluation import Evaluation
from fcn_plugin.report.examples import groups, key
from fcn_plugin.report.logs import Training
from fcn_plugin.report.panels import shares_uri
from fcn_plugin.report.run import Run, settings

SCORES = {  # title -> key in the host's logs
    "mean IU": "mIoU",
    "pixel accuracy": "aAcc",
    "mean accuracy": "mAcc",
    "frequency-weighted IU": "fwIoU",
    "final score (MIT)": "score",
}
CURVES = {"loss": "loss", "learning rate": "lr", "mean IU, validation": "mIoU"}
MINUS, NONE = "\u2212", "\u2013"  # a minus sign; a dash where there is no number
WORST = 3  # classes that are told to be the worst
MISTAKEN = 2  # classes that one is told to be taken for
PAIRS = 12  # most confused, told
WHOLE_MATRIX = 40  # classes of which a matrix is shown as a table
MATRIX_SIDE = 600  # pixels, about, of one that is shown as a picture
ROWS = 25  # of the numbers behind the curves, at most


def check_target(file: Path) -> None:
    """Refuse what no page can be written to, before anything is scored for it."""
    if file.is_dir():
        raise UserError(f"{file}: a folder; name the page, such as {file / 'report.html'}")


def page(runs: Sequence[Run]) -> str:
    """The HTML of one run, or of two side by side.

    Raises:
        UserError: the two have other classes.
    """
    names = _names(runs)
    scored = [run.evaluation for run in runs if run.evaluation]
    if len({tuple(evaluation.classes) for evaluation in scored}) > 1:
        raise UserError(f"{' and '.join(names)} have other classes; make a page of each alone")
    environment = Environment(
        loader=PackageLoader("fcn_plugin.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    curves = {
        title: [(name, run.training.curve(of)) for name, run in zip(names, runs, strict=True)]
        for title, of in CURVES.items()
    }
    last = max(run.training.last_step for run in runs)
    return environment.get_template("page.html").render(
        names=names,
        scored=scored,
        headline=_headline(runs),
        notes=[*_notes(names, runs), *_comparison_notes(scored)],
        classes=_class_rows(scored),
        confusions=[_confusion(evaluation) for evaluation in scored],
        charts=[made for title, pairs in curves.items() if (made := chart(title, pairs, last))],
        numbers=[_numbers(run.training) for run in runs],
        examples=groups(scored),
        differences=_differences(runs) if len(runs) > 1 else [],
        origins=[_origin(run) for run in runs],
    )


def _names(runs: Sequence[Run]) -> list[str]:
    """As told, and A and B before them, which tells two of one name apart."""
    if len(runs) == 1:
        return [runs[0].name]
    return [f"{letter}: {run.name}" for letter, run in zip("AB", runs, strict=True)]


# --- scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Number:
    """A value in percent or points, None where there is none, and how it is read."""

    value: float | None
    signed: bool = False

    @property
    def text(self) -> str:
        if self.value is None:
            return NONE
        return f"{self.value:{'+' if self.signed else ''}.2f}".replace("-", MINUS)


def _number(fraction: float) -> Number:
    return Number(None if math.isnan(fraction) else 100 * float(fraction))


def _change(numbers: Sequence[Number]) -> Number:
    """The second minus the first, in points."""
    values = [number.value for number in numbers if number.value is not None]
    return Number(values[1] - values[0] if len(values) > 1 else None, signed=True)


def _headline(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each score's title, numbers of the runs, and change."""
    found = [_scores(run) for run in runs]
    rows = []
    for title in SCORES:
        numbers = [Number(scores.get(title)) for scores in found]
        if any(number.value is not None for number in numbers):
            rows.append(dict(title=title, numbers=numbers, change=_change(numbers)))
    return rows


def _scores(run: Run) -> dict[str, float]:
    """In percent, of the evaluation, else of the last validation in the log."""
    if run.evaluation is None:
        last = list(run.training.val.values())[-1:]
        return {
            title: entry[key] for entry in last for title, key in SCORES.items() if key in entry
        }
    found = run.evaluation.scores
    fractions = [
        found.mean_iu,
        found.pixel_accuracy,
        found.mean_accuracy,
        found.frequency_weighted_iu,
    ]
    if run.evaluation.absent == "zero":
        fractions.append(found.final)
    return {
        title: 100 * value
        for title, value in zip(SCORES, fractions, strict=False)
        if not math.isnan(value)
    }


def _notes(names: Sequence[str], runs: Sequence[Run]) -> list[str]:
    notes = []
    for name, run in zip(names, runs, strict=True):
        start = f"{name}: " if len(runs) > 1 else ""
        notes += [f"{start}{note}" for note in run.notes]
        total = (run.cfg.get("train_cfg") or {}).get("max_iters")
        if total and 0 < run.training.last_step < total:
            notes.append(
                f"{start}The logs end at iteration {run.training.last_step:,} of {total:,}: the "
                "run is going on, or was interrupted."
            )
        if run.evaluation is None and run.training.val:
            notes.append(
                f"{start}The scores are those of the last validation in the log, at iteration "
                f"{list(run.training.val)[-1]:,}."
            )
    return notes


def _comparison_notes(scored: Sequence[Evaluation]) -> list[str]:
    notes = []
    if len({tuple(map(key, evaluation.images)) for evaluation in scored}) > 1:
        notes.append("The two were scored on different images; mind that in every difference.")
    if len({evaluation.absent for evaluation in scored}) > 1:
        notes.append("The two follow different rules for classes that are absent.")
    return notes


# --- classes -------------------------------------------------------------------------------------


def _class_rows(scored: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """One row a class, in the order of the data set."""
    if not scored:
        return []
    scores = [evaluation.scores for evaluation in scored]
    first = scored[0]
    share = first.matrix.sum(1) / max(first.matrix.sum(), 1)
    order = [i for i in np.argsort(scores[0].class_iu) if not math.isnan(scores[0].class_iu[i])]
    worst = set(order[: min(WORST, len(order) // 2)])
    rows = []
    for i, name in enumerate(first.classes):
        ius = [_number(score.class_iu[i]) for score in scores]
        rows.append(
            dict(
                number=first.numbers[i],
                name=name,
                colour=_hex(first.palette[i]),
                ius=ius,
                accuracies=[_number(score.class_accuracy[i]) for score in scores],
                share=_number(share[i]),
                change=_change(ius),
                worst=i in worst,
                mistaken=_mistaken(first.matrix[i], i, first.classes),
            )
        )
    return rows


def _mistaken(row: np.ndarray, own: int, classes: Sequence[str]) -> str:
    """What most of its other pixels are taken for."""
    others = [i for i in np.argsort(-row, kind="stable") if i != own and row[i]]
    return ", ".join(f"{classes[i]} {_percent(row[i] / row.sum())}" for i in others[:MISTAKEN])


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%" if share >= 0.01 else "<\u00a01\u00a0%"


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*(int(level) for level in colour))


def _confusion(evaluation: Evaluation) -> dict[str, Any]:
    """The matrix by rows of shares, and the pairs most often confused."""
    matrix, classes = evaluation.matrix, evaluation.classes
    with np.errstate(invalid="ignore"):
        shares = matrix / matrix.sum(1, keepdims=True)
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, matrix.shape), strict=True)]
    whole = len(classes) <= WHOLE_MATRIX
    rows = [[None if math.isnan(share) else share for share in row] for row in shares.tolist()]
    titles = [f"{number} {name}" for number, name in zip(evaluation.numbers, classes, strict=True)]
    return dict(
        titles=titles,
        rows=rows if whole else [],
        picture="" if whole else shares_uri(shares, max(1, MATRIX_SIDE // len(classes))),
        pairs=[
            dict(
                truth=titles[i],
                prediction=titles[j],
                share=_percent(shares[i, j]),
                pixels=f"{wrong[i, j]:,}",
            )
            for i, j in pairs
            if wrong[i, j]
        ],
    )


# --- curves, config, versions --------------------------------------------------------------------


def _numbers(training: Training) -> list[dict[str, str]]:
    """Loss, rate and mean IU at each validation, or at some iterations if there was none."""
    steps = list(training.val) or list(training.train)
    rows = []
    for step in steps[:: max(1, -(-len(steps) // ROWS))]:
        before = max((known for known in training.train if known <= step), default=step)
        values = {**training.train.get(before, {}), **training.val.get(step, {})}
        told = {of: f"{values[of]:.4g}" if of in values else NONE for of in CURVES.values()}
        rows.append(dict(step=f"{step:,}", **told))
    return rows


def _differences(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Settings of the runner that differ, by dotted names."""
    first, second = (settings(run.cfg) for run in runs)
    names = [*first, *(name for name in second if name not in first)]
    return [
        dict(name=name, first=first.get(name, NONE), second=second.get(name, NONE))
        for name in names
        if first.get(name) != second.get(name)
    ]


def _origin(run: Run) -> dict[str, Any]:
    training = run.training
    trained = {}
    if training.sessions:
        trained["took (h:mm:ss)"] = training.duration
        trained["last iteration logged"] = f"{training.last_step:,}"
        trained |= training.environment
    return dict(
        name=run.name,
        config=run.cfg.pretty_text,
        trained=trained,
        scored=run.evaluation.facts if run.evaluation else {},
    )
