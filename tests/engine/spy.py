"""A tracker that notes what it is asked to do."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.visualization import Visualizer, vis_backend
from mmseg.registry import VISBACKENDS
from torch import distributed

from fcn_plugin.engine import TrackingHook
from fcn_plugin.engine.trackers import Tracker
from fcn_plugin.errors import UserError


class Plain(vis_backend.BaseVisBackend):
    """As mmengine's are; fails at what is ``broken``."""

    def __init__(self, save_dir: str, broken: tuple[str, ...] = ()) -> None:
        super().__init__(save_dir)
        self.broken = broken
        self.done: list[tuple] = []

    def note(self, *what: Any) -> None:
        self.done.append(what)
        if what[0] in self.broken:
            raise RuntimeError(f"no {what[0]}: https://me:word@host/?key=word\nmore")

    def _init_env(self) -> None:
        self.note("start")

    @property
    @vis_backend.force_init_env
    def experiment(self) -> str:
        return "started"

    def close(self) -> None:
        self.note("close")


@VISBACKENDS.register_module()
class Spy(Tracker, Plain):
    remedy = "mend it"

    def _send_config(self, config: Config) -> None:
        self.note("config")

    def _send_scalars(self, values: Any, step: int) -> None:
        self.note("scalars", step, dict(values))

    def _send_image(self, name: str, image: np.ndarray, step: int) -> None:
        self.note("image", step, name)


class Five:
    """A data set of five images."""

    metainfo: dict[str, Any] = {}

    def __len__(self) -> int:
        return 5


class Drawn(TrackingHook):
    """Without pictures; the samples are numbers."""

    def _draw(self, sample: int, *_: Any) -> None:
        self.sheets[f"image {sample}"] = np.zeros((2, 2, 3), np.uint8)


def sent(broken: tuple[str, ...]) -> list[tuple] | str:
    """What this process sends of a validation of five images, or why it ends."""
    rank, spy, hook = distributed.get_rank(), Spy("", broken), Drawn(2)
    hook.view = SimpleNamespace()
    metric = SimpleNamespace(prefix="geo", class_scores=dict(IU=dict(sky=91.5)))
    loader = SimpleNamespace(dataset=Five())
    runner = SimpleNamespace(
        visualizer=Visualizer(vis_backends=[spy]),
        val_dataloader=loader,
        val_loop=SimpleNamespace(evaluator=SimpleNamespace(metrics=[metric, object()])),
        iter=7,
    )
    try:
        hook.before_train(runner)
    except UserError as error:
        return str(error)
    hook.before_val(runner)
    for sample in (rank, rank + 2, (rank + 4) % 5):
        hook.after_val_iter(runner, 0, outputs=[sample])
    hook.after_val_epoch(runner)
    return spy.done
