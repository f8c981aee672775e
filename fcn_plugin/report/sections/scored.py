"""A scored run, as the sections of the page take it."""

import math
from dataclasses import dataclass

import numpy as np

from fcn_plugin.evaluation.intervals import Intervals
from fcn_plugin.report.evaluation import Evaluation
from fcn_plugin.report.rendering import Number, in_percent

LOWEST = 3  # most classes marked as the worst


@dataclass(frozen=True)
class Scored:
    """A run's evaluation and its place on the page.

    Attributes:
        letter: 'A' or 'B' of two runs; '' of one.
        intervals: None if there are none.
    """

    letter: str
    evaluation: Evaluation
    intervals: Intervals | None

    @property
    def place(self) -> int:
        """0, or 1 of the second run: of its style in charts, for example."""
        return int(self.letter == "B")

    @property
    def start(self) -> str:
        """The start of a sentence about this run, 'A: ' of two."""
        return f"{self.letter}: " if self.letter else ""

    def measured(self, name: str) -> bool:
        """Whether a score of ``measures.summary`` is there, and is a number."""
        value = self.evaluation.scores.get(name)
        return isinstance(value, float) and not math.isnan(value)

    def score(self, name: str) -> Number:
        """A score by its name in ``measures.summary``, with its interval."""
        bounds = self.intervals.scores.get(name) if self.intervals else None
        return in_percent(self.evaluation.scores.get(name, math.nan), bounds)

    def of_class(self, name: str, index: int) -> Number:
        """A class's score, by the array's name there, with its interval."""
        values = self.evaluation.scores.get(name)
        if values is None:
            return Number(None)
        bounds = self.intervals.arrays[name][index] if self.intervals else None
        return in_percent(values[index], bounds)

    def mistaken_for(self, index: int) -> list[tuple[str, float]]:
        """The classes predicted instead of a class and shares of its pixels, largest first."""
        classes, row = self.evaluation.classes, self.evaluation.matrix[index]
        order = [int(i) for i in np.argsort(-row, kind="stable") if i != index and row[i]]
        return [(classes[i], row[i] / row.sum()) for i in order]

    @property
    def lowest(self) -> list[int]:
        """The classes of the lowest IUs, at most half of all and three, the lowest first."""
        ius = self.evaluation.scores["class_iu"]
        order = [int(i) for i in np.argsort(ius, kind="stable") if not math.isnan(ius[i])]
        return order[: min(LOWEST, len(order) // 2)]
