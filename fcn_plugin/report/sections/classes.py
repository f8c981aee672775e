"""The table of classes."""

from collections.abc import Sequence
from typing import Any

from fcn_plugin.evaluation.drawing import percent
from fcn_plugin.report.rendering import hex_colour, in_percent
from fcn_plugin.report.sections.scored import Scored
from fcn_plugin.report.sections.scores import change

MISTAKEN = 2  # most frequent wrong predictions listed for a class
# Heading -> name in ``measures.summary``.
COLUMNS = {
    "IU": "class_iu",
    "accuracy": "class_accuracy",
    "precision": "class_precision",
    "boundary IU": "class_boundary_iu",
    "Dice": "class_dice",
}


def class_rows(scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """A row for each class: numbers of each run, and what it is taken for in the first one."""
    if not scored:
        return []
    first = scored[0].evaluation
    share = first.matrix.sum(1) / max(first.matrix.sum(), 1)
    columns = {heading: COLUMNS[heading] for heading in headings(scored)}
    rows = []
    for i, name in enumerate(first.classes):
        scores = {
            heading: [one.of_class(column, i) for one in scored]
            for heading, column in columns.items()
        }
        rows.append(
            dict(
                number=first.numbers[i],
                name=name,
                colour=hex_colour(first.palette[i]),
                scores=scores,
                share=in_percent(share[i]),
                change=change(scores["IU"]),
                worst=i in scored[0].lowest,
                mistaken=_in_words(scored[0].mistaken_for(i)[:MISTAKEN]),
            )
        )
    return rows


def headings(scored: Sequence[Scored]) -> list[str]:
    """The headings of the columns that a run has."""
    return [
        heading
        for heading, name in COLUMNS.items()
        if any(name in one.evaluation.scores for one in scored)
    ]


def _in_words(shares: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {percent(share)}".replace(" %", "\u00a0%") for name, share in shares)
