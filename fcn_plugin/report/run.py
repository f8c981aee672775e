"""What the page says of a work dir: config, logs, and the evaluation if there is one."""

from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from fcn_plugin.errors import UserError
from fcn_plugin.report import logs
from fcn_plugin.report.evaluation import Evaluation
from fcn_plugin.system.configs import dotted_settings

# Where and how a run is started, which says nothing of it.
PLACES = ("work_dir", "launcher", "resume", "local_rank", "experiment_name")


@dataclass
class Run:
    """A run, trained or still training.

    Attributes:
        name: of the work dir.
        cfg: its config.
        training: by its logs.
        notes: what is missing, and why, as sentences.
        evaluation: what the page scores; None if it could not be scored.
    """

    name: str
    cfg: Config
    training: logs.Training
    notes: list[str] = field(default_factory=list)
    evaluation: Evaluation | None = None


def trained_run(work_dir: Path, cfg: Config | None = None) -> Run:
    """The run of a work dir, with the config of its last session unless another is given.

    Raises:
        UserError: it is no work dir.
    """
    cfg = cfg or read_config(work_dir)
    return Run(work_dir.resolve().name, cfg, logs.read_training(work_dir))


def read_config(work_dir: Path) -> Config:
    """The config that a work dir was trained with, as its last session wrote it down.

    Raises:
        UserError: it is no work dir.
    """
    if not work_dir.is_dir():
        raise UserError(f"{work_dir}: no such folder; give the work dir of a training")
    written = [folder / "vis_data/config.py" for folder in logs.session_folders(work_dir)[::-1]]
    newest_first = sorted(work_dir.glob("*.py"), key=lambda file: -file.stat().st_mtime)
    # A data set of the user's own has configs as well, and is no run.
    trained = any(work_dir.glob("*/*.log")) or any(work_dir.glob("*.pth"))
    for file in (*written, *newest_first):
        if trained and file.is_file():
            return Config.fromfile(file)
    raise UserError(
        f"{work_dir}: no training in it; give a work dir that tools/train.py has written"
    )


def settings(cfg: Config) -> dict[str, str]:
    """What the runner is given, by dotted names; shorthands of the file are left out."""
    given = set(signature(Runner.__init__).parameters) - set(PLACES)
    return dict(item for key in cfg if key in given for item in dotted_settings(cfg[key], key))
