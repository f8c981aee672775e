"""Fit a temperature to a network's scores on some images, and write it into a checkpoint."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from torch import Tensor

from fcn_plugin.checks.input import Stored
from fcn_plugin.conversion.writing import write
from fcn_plugin.data.numbering import metainfo_of
from fcn_plugin.data.tasks import fields, meta_of
from fcn_plugin.engine import bare_model
from fcn_plugin.errors import UserError, quoted
from fcn_plugin.evaluation.calibration import calibration_error, mean_confidence
from fcn_plugin.evaluation.counting import label_maps
from fcn_plugin.evaluation.temperature import (
    PixelSample,
    counts_at,
    fit_temperature,
    negative_log_likelihood,
)
from fcn_plugin.models.coarse import in_single
from fcn_plugin.models.probability import scores_at
from fcn_plugin.models.score_layers import check_divisible, head_of, score_parameters
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.files import check_checkpoint, tensors_and_meta

HOOKS_OWN = "hook_msgs"  # meta data of the training: which checkpoint was its best


class Figures(NamedTuple):
    """How sure a network is of some pixels; all but the last are fractions.

    Attributes:
        confidence, accuracy: how often it says to be right, and is.
        error: the expected calibration error.
        nll: the mean negative log likelihood of the true labels, in nats.
    """

    confidence: float
    accuracy: float
    error: float
    nll: float

    @classmethod
    def of(cls, scores: Tensor, labels: Tensor, temperature: float) -> "Figures":
        """Of scores N x C, divided by a temperature, and labels N."""
        counts = counts_at(scores, labels, temperature)
        pixels, right, _ = counts.sum(1)
        return cls(
            mean_confidence(counts),
            float(right / pixels),
            calibration_error(counts),
            negative_log_likelihood(scores, labels, temperature),
        )


class Calibration(NamedTuple):
    """What was fitted and written.

    Attributes:
        temperature: by which the checkpoint's scores were divided.
        total: with earlier temperatures of the same checkpoint, their product.
        images, pixels: how many there were, and how many pixels were drawn from them.
        before, after: of these pixels.
    """

    temperature: float
    total: float
    images: int
    pixels: int
    before: Figures
    after: Figures


def calibrate(
    cfg: Config,
    checkpoint: Path,
    target: Path,
    task: str | None = None,
    progress: Progress = silent,
) -> Calibration:
    """Write ``target``, the weights of ``checkpoint`` with its scores divided by a temperature.

    The temperature is fitted to the images of ``cfg.test_dataloader``, by one process. The meta
    data have it as "temperature", that of a task as "TASK_temperature"; a checkpoint that has one
    already gets the product.

    Args:
        cfg: the network's config, checked.
        checkpoint: its weights.
        target: the file to write, .pth or .safetensors.
        task: divide the scores of this one of ``task_heads``; default: of the main head.

    Raises:
        UserError: the weights are not the config's, images have no labels, the scores cannot be
            divided within the weights or no temperature changes them, or the file cannot be
            written.
    """
    if target.is_dir() or (target.exists() and target.samefile(checkpoint)):
        raise UserError(f"{target}: a folder, or the checkpoint itself; name a new file")
    if target.suffix not in (".pth", ".safetensors"):
        raise UserError(f"{target}: no name of a checkpoint; end it in .pth or .safetensors")
    content = check_checkpoint(checkpoint)
    tensors, meta = tensors_and_meta(checkpoint, content)
    key = "temperature" if task is None else f"{task}_temperature"
    earlier = meta.get(key, 1.0)
    if not isinstance(earlier, int | float) or not 0 < earlier < float("inf"):
        raise UserError(
            f"{checkpoint}: its meta data have {key}={quoted(earlier)}, which is none; give the "
            "checkpoint that it was made of"
        )
    cfg = cfg.copy()
    cfg.load_from, cfg.resume, cfg.launcher = str(checkpoint), False, "none"
    cfg.test_evaluator, cfg.log_level = [], "WARNING"
    hook = PixelsHook(task, progress)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        model = bare_model(runner)
        Stored.of(content).refuse_others(model, metainfo_of(cfg.test_dataloader.dataset))
        runner.register_hook(hook)
        runner.test()
    scores, labels = hook.sample.drawn()
    temperature = fit_temperature(scores, labels)
    divided = {name: in_single(tensors[name]) / temperature for name in _names(model, task)}
    meta = {name: value for name, value in meta.items() if name != HOOKS_OWN}
    total = earlier * temperature
    write(dict(state_dict=tensors | divided, meta=meta | {key: total}), target, progress)
    before, after = (Figures.of(scores, labels, t) for t in (1.0, temperature))
    return Calibration(temperature, total, hook.images, len(labels), before, after)


def _names(model: Any, task: str | None) -> list[str]:
    """The names of the head's ``score_parameters`` in a checkpoint."""
    wanted = set(map(id, score_parameters(head_of(model, task))))
    named = model.named_parameters(remove_duplicate=False)
    return [name for name, parameter in named if id(parameter) in wanted]


class PixelsHook(Hook):
    """Draws pixels with their scores from the images of a test, by one process.

    Args:
        task: as in ``calibrate``.
        progress: called after each batch of images.

    Attributes:
        images: how many there were.
        sample: what was drawn.
    """

    def __init__(self, task: str | None = None, progress: Progress = silent) -> None:
        self.task, self.progress, self.images = task, progress, 0

    def before_test(self, runner: Runner) -> None:
        dataset = runner.test_dataloader.dataset
        self.classes, self.size = len(meta_of(dataset.metainfo, self.task)["classes"]), len(dataset)
        head = head_of(bare_model(runner), self.task)
        self.ignore_index = getattr(head, "ignore_index", 255)
        self.sample = PixelSample(self.classes)

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        if batch_idx == 0:
            model = bare_model(runner)
            check_divisible(model, lambda: model.test_step(deepcopy(data_batch)), self.task)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        for sample in outputs or ():
            self._draw(sample)
            self.images += 1
        self.progress("Predicting", self.images, self.size)

    def _draw(self, sample: SegDataSample) -> None:
        path, names = sample.get("img_path", "an image without img_path"), fields(self.task)
        if names.truth not in sample:
            raise UserError(f"{path}: no label to fit a temperature to; give images with labels")
        truth = label_maps(sample.to_dict(), path, self.task)[0].long()
        illegal = (truth != self.ignore_index) & ((truth < 0) | (truth >= self.classes))
        if outside := int(illegal.sum()):
            raise UserError(
                f"{path}: {outside} pixels of its label are neither one of the {self.classes} "
                "classes nor ignored; check the label file and the data set's classes"
            )
        scores = sample.get(names.scores)
        self.sample.add(self.images, truth, self.ignore_index, lambda *at: two_or_more(scores, *at))


def two_or_more(scores: Any, rows: Tensor, cols: Tensor) -> Tensor:
    """A sample's scores P x C at P pixels; those of a single channel, a probability, are 0 and its
    logit, as far as single precision tells a probability from 1."""
    if coarse := getattr(scores, "coarse", None):
        values, down, across = coarse
        return scores_at(values, down, across, rows, cols)
    at = in_single(scores.data)[:, rows, cols].t()
    if at.shape[1] > 1:
        return at
    return torch.cat((torch.zeros_like(at), at.logit(torch.finfo(at.dtype).eps)), 1)
