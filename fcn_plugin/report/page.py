"""Render the HTML page about one run or two."""

from collections.abc import Sequence
from pathlib import Path

from fcn_plugin.errors import UserError
from fcn_plugin.report.charts import STYLES
from fcn_plugin.report.examples import groups, key
from fcn_plugin.report.rendering import rendered
from fcn_plugin.report.run import Run
from fcn_plugin.report.sections.against import against
from fcn_plugin.report.sections.borders import borders
from fcn_plugin.report.sections.classes import class_rows, headings
from fcn_plugin.report.sections.confidence import confidence
from fcn_plugin.report.sections.confusion import confusion
from fcn_plugin.report.sections.curves import charts, numbers
from fcn_plugin.report.sections.errors import errors, looks
from fcn_plugin.report.sections.scored import Scored
from fcn_plugin.report.sections.scores import headline
from fcn_plugin.report.sections.settings import differences, origin
from fcn_plugin.report.sections.words import in_words


def check_target(file: Path) -> None:
    """Refuse a folder as the page's file, before time is spent on scoring."""
    if file.is_dir():
        raise UserError(f"{file}: a folder; name the page, such as {file / 'report.html'}")


def page(runs: Sequence[Run]) -> str:
    """The HTML page about one run, or about two side by side.

    Raises:
        UserError: the two runs have different classes.
    """
    names, letters = [runs[0].name], [""]
    if len(runs) > 1:  # two may have the same name
        letters = ["A", "B"]
        names = [f"{letter}: {run.name}" for letter, run in zip(letters, runs, strict=True)]
    beside = [
        Scored(letter, run.evaluation, run.intervals) if run.evaluation else None
        for letter, run in zip(letters, runs, strict=True)
    ]
    scored = [one for one in beside if one]
    evaluations = [one.evaluation for one in scored]
    if len({tuple(evaluation.classes) for evaluation in evaluations}) > 1:
        raise UserError(f"{' and '.join(names)} have different classes; make a page of each alone")
    return rendered(
        "page.html",
        names=names,
        scored=scored,
        headline=headline(runs, beside),
        sentences=[text for text in map(in_words, scored) if text],
        notes=[*_notes(names, runs), *_comparison_notes(scored)],
        intervals=list(dict.fromkeys(one.intervals.text for one in scored if one.intervals)),
        pixels=list(dict.fromkeys(f"{one.matrix.sum():,}" for one in evaluations)),
        against=against(scored),
        classes=class_rows(scored),
        headings=headings(scored),
        confusions=[confusion(evaluation) for evaluation in evaluations],
        borders=borders(scored),
        confidence=confidence(scored),
        errors=errors(scored),
        looks=looks(scored),
        charts=charts(names, runs),
        line_colours=[style["color"] for style in STYLES],
        numbers=[numbers(run.training) for run in runs],
        examples=groups(evaluations),
        differences=differences(runs) if len(runs) > 1 else [],
        origins=[origin(run) for run in runs],
    )


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


def _comparison_notes(scored: Sequence[Scored]) -> list[str]:
    notes = []
    if len({tuple(map(key, one.evaluation.images)) for one in scored}) > 1:
        notes.append("The two were scored on different images; mind that in every difference.")
    if len({one.evaluation.absent for one in scored}) > 1:
        notes.append("The two follow different rules for classes that are absent.")
    return notes
