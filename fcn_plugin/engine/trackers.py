"""Weights & Biases, MLflow and ClearML as backends of mmengine's visualizer, under its own names.

mmengine 0.10.7's backends count calls instead of iterations (W&B), write each picture over the one
before, refuse MLflow 3 without a server, and upload all code of the current folder (W&B) or all
checkpoints (ClearML). These replace them wherever the default scope is mmseg's; a config reaches
mmengine's own as ``mmengine.WandbVisBackend``.
"""

import os
import posixpath
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.visualization import vis_backend
from mmseg.registry import VISBACKENDS

from fcn_plugin.errors import UserError, quoted

PAUSE = 600  # seconds without a further attempt after a failure: some last for minutes
# What MLflow does not allow in a name.
OUTSIDE_MLFLOW = re.compile(r"[^\w/.\- :]")


class Tracker(vis_backend.BaseVisBackend):
    """What the backends below have in common.

    It starts with the first value or picture, not with the config, so that a test, which sends
    neither, leaves no empty run behind. If it fails later, that is logged as a warning, and the
    training goes on.

    Attributes:
        remedy: what to do if it cannot start.

    Raises:
        UserError: on starting: it is not installed, not logged in, or does not reach its server.
    """

    remedy: str

    _config: Config | None = None
    _pause_end = 0.0

    def _init_env(self) -> None:
        try:
            super()._init_env()
        except Exception as error:  # each library has its own
            raise UserError(
                f"{type(self).__name__} cannot start ({quoted(error)}); {self.remedy}, or take it "
                "out of visualizer.vis_backends"
            ) from error
        self._env_initialized = True
        if self._config is not None:
            self._send(self._send_config, self._config)

    def add_config(self, config: Config, **kwargs: Any) -> None:
        """Keep the config, to be sent on starting."""
        self._config = self.cfg = config  # ``cfg`` is what mmengine's ``close`` reads

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **kwargs: Any) -> None:
        """Send a picture, [H, W, 3] uint8, RGB."""
        self._send(self._send_image, name, image, step)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Send a value."""
        self.add_scalars({name: value}, step)

    def add_scalars(
        self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Send values by name; ``file_path`` has no effect."""
        self._send(self._send_scalars, scalar_dict, step)

    def close(self) -> None:
        """End the run, if there is one."""
        if self._env_initialized:
            self._send(super().close)

    def _send(self, method: Callable[..., None], *args: Any) -> None:
        _ = self.experiment  # starts it
        if time.monotonic() < self._pause_end:
            return
        try:
            method(*args)
        except Exception as error:  # no tracker's failure may end a training
            self._pause_end = time.monotonic() + PAUSE
            # Formatted here: mmengine shows a warning of the same template only once.
            MMLogger.get_current_instance().warning(
                f"{type(self).__name__} has failed ({quoted(error)}); the training goes on, "
                f"nothing is sent for {PAUSE // 60} minutes; vis_data/scalars.json has all scores"
            )

    def _send_config(self, config: Config) -> None:
        raise NotImplementedError

    def _send_scalars(self, values: Mapping[str, Any], step: int) -> None:
        raise NotImplementedError

    def _send_image(self, name: str, image: np.ndarray, step: int) -> None:
        raise NotImplementedError


@VISBACKENDS.register_module()
class WandbVisBackend(Tracker, vis_backend.WandbVisBackend):
    """Weights & Biases, at the steps of the training. Arguments are mmengine's.

    Code is uploaded only if ``log_code_name`` is given; ``commit`` has no effect.
    """

    remedy = "run wandb login, or set WANDB_MODE=offline"

    _step = 0

    def _send_config(self, config: Config) -> None:
        self._wandb.config.update(config.to_dict(), allow_val_change=True)
        if self._log_code_name:
            self._wandb.run.log_code(name=self._log_code_name)

    def _send_scalars(self, values: Mapping[str, Any], step: int) -> None:
        # W&B drops what belongs to a step before the last one, such as an epoch's number.
        self._step = max(self._step, step)
        # Not committed, for a committed step is closed, and a validation sends several times.
        self._wandb.log(dict(values), step=self._step)

    def _send_image(self, name: str, image: np.ndarray, step: int) -> None:
        self._send_scalars({name: self._wandb.Image(image)}, step)


@VISBACKENDS.register_module()
class MLflowVisBackend(Tracker, vis_backend.MLflowVisBackend):
    """MLflow 2.12 or newer, with the steps of pictures. Arguments are mmengine's.

    Without ``tracking_uri``, MLflow's own rule: the variable MLFLOW_TRACKING_URI, or else a file in
    the current folder. Characters that it does not allow in a name become "_".
    """

    _tracking_uri: str | None  # mmengine's

    remedy = "check tracking_uri, or the variable MLFLOW_TRACKING_URI, and that server"

    def _init_env(self) -> None:
        # Some seconds for a server that does not answer, instead of minutes without a word.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        if self._tracking_uri is None and find_spec("mlflow"):
            self._tracking_uri = import_module("mlflow").get_tracking_uri()
        super()._init_env()

    def _send_config(self, config: Config) -> None:
        vis_backend.MLflowVisBackend.add_config(self, config)

    def _send_scalars(self, values: Mapping[str, Any], step: int) -> None:
        self._mlflow.log_metrics({_allowed(name): v for name, v in values.items()}, step)

    def _send_image(self, name: str, image: np.ndarray, step: int) -> None:
        self._mlflow.log_image(image, key=_allowed(name), step=step)


@VISBACKENDS.register_module()
class ClearMLVisBackend(Tracker, vis_backend.ClearMLVisBackend):
    """ClearML, with "IU/sky" as the curve "sky" of the plot "IU". Arguments are mmengine's.

    ``artifact_suffix`` leaves out checkpoints by default. ClearML would read along what goes to
    TensorBoard, and have it twice; ``init_kwargs`` switches that off.
    """

    remedy = "run clearml-init, or set CLEARML_OFFLINE_MODE=1"

    def __init__(
        self,
        save_dir: str | None = None,
        init_kwargs: dict | None = None,
        artifact_suffix: Sequence[str] = (".py",),
    ) -> None:
        once = dict(auto_connect_frameworks=dict(tensorboard=False))
        super().__init__(save_dir, once | dict(init_kwargs or {}), tuple(artifact_suffix))

    def _send_config(self, config: Config) -> None:
        self._task.connect_configuration(config.to_dict())

    def _send_scalars(self, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            title, series = _plot_and_curve(name)
            self._logger.report_scalar(title, series, value=value, iteration=step)

    def _send_image(self, name: str, image: np.ndarray, step: int) -> None:
        title, series = _plot_and_curve(name)
        self._logger.report_image(title, series, image=image, iteration=step)


def _allowed(name: str) -> str:
    """A name that MLflow takes, which is also a path.

    >>> _allowed("IU/person, (any)"), _allowed("IU//sky/")
    ('IU/person_ _any_', 'IU/sky')
    """
    return posixpath.normpath(OUTSIDE_MLFLOW.sub("_", name)).lstrip("/")


def _plot_and_curve(name: str) -> tuple[str, str]:
    plot, _, curve = name.rpartition("/")
    return plot or name, curve
