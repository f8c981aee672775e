"""What two configs differ in, and where a run's numbers come from."""

from collections.abc import Sequence
from typing import Any

from fcn_plugin.report.rendering import NONE
from fcn_plugin.report.run import Run, settings


def differences(runs: Sequence[Run]) -> list[dict[str, str]]:
    first, second = (settings(run.cfg) for run in runs)
    return [
        dict(name=name, first=first.get(name, NONE), second=second.get(name, NONE))
        for name in {**first, **second}
        if first.get(name) != second.get(name)
    ]


def origin(run: Run) -> dict[str, Any]:
    training = run.training
    trained = {}
    if training.sessions:
        trained["took (h:mm:ss)"] = training.duration
        trained["last iteration logged"] = f"{training.last_step:,}"
        trained |= training.environment
    scored = run.evaluation.facts if run.evaluation else {}
    return dict(config=run.cfg, trained=trained, scored=scored)
