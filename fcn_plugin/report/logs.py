"""Read the learning curves, duration and environment of a run from mmengine's logs.

Each session of a run (a start or a resume) has its own folder of logs, named by its start time.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

SCALARS = "vis_data/scalars.json"
STAMP = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d", re.MULTILINE)
# Lines at the beginning of mmengine's log.
ENVIRONMENT = re.compile(r"^ +(Python|PyTorch|MMEngine|GPU [\d,]+|seed): +([^\n(]+)", re.MULTILINE)
TRAINED = ("lr", "loss")

Curve = list[tuple[int, float]]  # iteration, value


@dataclass
class Training:
    """The content of a run's logs.

    Attributes:
        train, val: iteration -> logged values; of iterations trained twice, the later values.
        sessions: how many times the run was started or resumed.
        seconds: time between the first and last line of each session's log, summed.
        environment: versions and devices, from the last log that has them.
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
    """The joined logs of all sessions; a resumed session replaces entries after its start."""
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
    """The folders of the training sessions, earliest first, without those of tests."""
    return sorted(path.parents[1] for path in work_dir.glob(f"*/{SCALARS}"))


def _entries(file: Path) -> tuple[dict[int, dict], dict[int, dict]]:
    train: dict[int, dict] = {}
    val: dict[int, dict] = {}
    last_of_epoch: dict[int, int] = {}
    for line in file.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, KeyError, TypeError):  # the line was cut off when the run was killed
            continue
        if "loss" in entry:
            train[step] = entry
            if epoch := entry.get("epoch"):
                last_of_epoch[epoch] = step
        else:  # with epoch-based training, the step of a validation is its epoch
            val[last_of_epoch.get(step, step)] = entry
    return train, val
