"""Read mmengine's logs of a work dir: learning curves, how long it took, on what.

A run that is resumed has several folders named by the time, each with a log of its own.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

SCALARS = "vis_data/scalars.json"
STAMP = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", re.MULTILINE)
# At the head of mmengine's log.
ENVIRONMENT = re.compile(r"^ +(Python|PyTorch|MMEngine|GPU [\d,]+|seed): +([^\n(]+)", re.MULTILINE)
TRAINED = ("lr", "loss")

Curve = list[tuple[int, float]]  # iteration, value


@dataclass
class Training:
    """What the logs of a run say.

    Attributes:
        train, val: iteration -> what was logged there; what a resumed session repeated, by that.
        sessions: how many times it was started or resumed.
        seconds: from the first to the last line of each session's log, summed.
        environment: versions and devices by the last log that has them.
    """

    train: dict[int, dict[str, Any]] = field(default_factory=dict)
    val: dict[int, dict[str, Any]] = field(default_factory=dict)
    sessions: int = 0
    seconds: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)

    def curve(self, key: str) -> Curve:
        entries = self.train if key in TRAINED else self.val
        return [(step, float(entry[key])) for step, entry in entries.items() if key in entry]

    @property
    def last_step(self) -> int:
        return max([*self.train, *self.val], default=0)

    @property
    def duration(self) -> str:
        """Such as "0:57:12 in 2 sessions"."""
        sessions = f" in {self.sessions} sessions" if self.sessions > 1 else ""
        return f"{timedelta(seconds=round(self.seconds))}{sessions}"


def read_training(work_dir: Path) -> Training:
    """Join the sessions; a resumed one replaces what was logged beyond its start."""
    training = Training()
    for folder in session_folders(work_dir):
        train, val = _entries(folder / SCALARS)
        if train:
            start = min(train)
            training.train = {step: e for step, e in training.train.items() if step < start}
            training.val = {step: e for step, e in training.val.items() if step < start}
        training.train |= train
        training.val |= val
        training.sessions += 1
        for log in folder.glob("*.log"):
            text = log.read_text(errors="replace")
            if stamps := [datetime.strptime(s, "%Y/%m/%d %H:%M:%S") for s in STAMP.findall(text)]:
                training.seconds += (stamps[-1] - stamps[0]).total_seconds()
            training.environment |= {key: value.strip() for key, value in ENVIRONMENT.findall(text)}
    training.val = dict(sorted(training.val.items()))
    return training


def session_folders(work_dir: Path) -> list[Path]:
    """The folders of the training sessions, the earliest first; tests log no curve."""
    return sorted(path.parents[1] for path in work_dir.glob(f"*/{SCALARS}"))


def _entries(file: Path) -> tuple[dict[int, dict], dict[int, dict]]:
    train: dict[int, dict] = {}
    val: dict[int, dict] = {}
    last_of_epoch: dict[int, int] = {}
    for line in file.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError):  # cut off as the run was killed
            continue
        if "loss" in entry:
            train[step] = entry
            if epoch := entry.get("epoch"):
                last_of_epoch[epoch] = step
        else:  # a run that counts epochs gives those as steps of its validations
            val[last_of_epoch.get(step, step)] = entry
    return train, val
