"""The config, logs and evaluation of a run, read from its work dir."""

from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.intervals import Intervals
from fcn_plugin.report import logs
from fcn_plugin.report.evaluation import Evaluation
from fcn_plugin.system.configs import dotted_settings

# Settings of where and how a run is started; they do not affect its result.
PLACES = ("work_dir", "launcher", "resume", "local_rank", "experiment_name")


@dataclass
class Run:
    """A run, trained or still training.

    Attributes:
        name: name of the work dir.
        cfg: config of the run.
        training: content of the logs.
        notes: sentences for the page about what is missing, and why.
        evaluation: scores of a checkpoint; None if none could be scored.
        intervals: intervals of these scores; None if there are none.
    """

    name: str
    cfg: Config
    training: logs.Training
    notes: list[str] = field(default_factory=list)
    evaluation: Evaluation | None = None
    intervals: Intervals | None = None

    def add(self, evaluation: Evaluation | None, by: str | None) -> None:
        """Add an evaluation, and its intervals unless ``by`` is None or there is but one image.

        Args:
            by: 'image' or 'scene'.

        Raises:
            UserError: the names of the images do not tell their scenes.
        """
        self.evaluation = evaluation
        if evaluation and by and len(evaluation.images) > 1:
            self.intervals = evaluation.intervals(by)


def trained_run(work_dir: Path, cfg: Config | None = None) -> Run:
    """The run of a work dir; its config is ``cfg`` or by default the last session's.

    Raises:
        UserError: the folder is not a work dir.
    """
    cfg = cfg or read_config(work_dir)
    return Run(work_dir.resolve().name, cfg, logs.read_training(work_dir))


def read_config(work_dir: Path) -> Config:
    """The config that the last session in a work dir was trained with.

    Raises:
        UserError: the folder is not a work dir.
    """
    if not work_dir.is_dir():
        raise UserError(f"{work_dir}: no such folder; give the work dir of a training")
    of_sessions = [folder / "vis_data/config.py" for folder in logs.session_folders(work_dir)[::-1]]
    newest_first = sorted(work_dir.glob("*.py"), key=lambda file: -file.stat().st_mtime)
    # A folder of the user's own data set has configs, too.
    trained = any(work_dir.glob("*/*.log")) or any(work_dir.glob("*.pth"))
    for file in (*of_sessions, *newest_first):
        if trained and file.is_file():
            return Config.fromfile(file)
    raise UserError(
        f"{work_dir}: no training in it; give a work dir that fcn-plugin train has written"
    )


def settings(cfg: Config) -> dict[str, str]:
    """The settings that mmengine's runner reads, by dotted name."""
    parameters = set(signature(Runner.__init__).parameters) - set(PLACES)
    return dict(item for key in cfg if key in parameters for item in dotted_settings(cfg[key], key))
