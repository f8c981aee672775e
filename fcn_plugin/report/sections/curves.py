"""Learning curves and the numbers behind them."""

from collections.abc import Sequence

from fcn_plugin.report.charts import chart
from fcn_plugin.report.logs import Training
from fcn_plugin.report.rendering import NONE
from fcn_plugin.report.run import Run

CURVES = {"loss": "loss", "learning rate": "lr", "mean IU, validation": "mIoU"}
ROWS = 25  # most rows of the table of numbers behind the curves


def charts(names: Sequence[str], runs: Sequence[Run]) -> list[dict[str, str]]:
    last = max(run.training.last_step for run in runs)
    drawn = (
        chart(title, [(n, r.training.curve(log)) for n, r in zip(names, runs, strict=True)], last)
        for title, log in CURVES.items()
    )
    return [each for each in drawn if each]


def numbers(training: Training) -> list[dict[str, str]]:
    """Loss, learning rate and mean IU at validations, or at iterations if there were none."""
    steps = list(training.val) or list(training.train)
    rows = []
    for step in steps[:: max(1, -(-len(steps) // ROWS))]:
        before = max((logged for logged in training.train if logged <= step), default=step)
        values = {**training.train.get(before, {}), **training.val.get(step, {})}
        texts = {log: f"{values[log]:.4g}" if log in values else NONE for log in CURVES.values()}
        rows.append(dict(step=f"{step:,}", **texts))
    return rows
