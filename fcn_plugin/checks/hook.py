"""Check the model, loops, scores and data of a run before the first iteration.

``checks.config`` checks a config before these are built from it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.datasets.transforms import LoadAnnotations, RandomCrop
from mmseg.registry import HOOKS
from torch import nn

from fcn_plugin.checks.data import (
    check_batches,
    check_files,
    check_first_sample,
    check_intervals,
    check_labels,
    image_names,
)
from fcn_plugin.checks.ignored import ignored_number, refuse_other_ignored
from fcn_plugin.checks.model import (
    check_bands,
    check_classes,
    check_losses,
    check_windows,
    pooled_batch_norm,
    weighted_losses,
)
from fcn_plugin.checks.run import batch_size, check_order, check_scores, smallest_batch
from fcn_plugin.checks.tasks import check_metrics, check_tasks, check_training_labels
from fcn_plugin.data.bands import LoadBands
from fcn_plugin.data.labels import LoadCheckedLabel
from fcn_plugin.data.numbering import IGNORED
from fcn_plugin.data.originals import plain_datasets, steps_of
from fcn_plugin.data.tasks import meta_of
from fcn_plugin.engine import bare_model
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Report in one line, before the first iteration, what would stop or spoil the run later.

    Checks that every image has its label; all heads and label loaders have the data set's classes;
    there is one ignore index; the data end if a loop waits for their end; losses, windows and
    BatchNorm can work; the first image to be scored loads; batches can be stacked; the images allow
    the intervals asked for; and the metrics give the scores that hooks wait for. Warns of images in
    both the training and the validation data, and of classes that no label has.

    Raises:
        UserError: one of these checks fails.
    """

    def before_train(self, runner: Runner) -> None:
        refuse_other_ignored(runner.cfg)
        model, loader = bare_model(runner), runner.train_dataloader
        parts = list(plain_datasets(loader.dataset))
        check_order("train_dataloader", loader, runner.train_loop)
        _check_parts("train_dataloader", model, parts)
        check_training_labels(model, parts)
        check_losses(model, get_device())
        layer = pooled_batch_norm(model)
        if layer and smallest_batch(loader, runner.train_loop) == 1:
            raise UserError(
                f"{layer} normalises one pixel of each image, which needs at least two images, but "
                "a training batch has 1; set train_dataloader.batch_size=2, or drop_last=True if "
                "only the last batch has 1"
            )
        for warning in _doubts(model, parts, ignored_number(runner.cfg), batch_size(loader)):
            runner.logger.warning(warning)
        if is_main_process():
            check_labels(parts, runner.logger)
        if runner.val_loop is not None:
            _check_scored(runner, "val_dataloader", runner.val_loop)
            check_scores(runner.val_loop.evaluator.metrics, runner.hooks)
            both = image_names(loader.dataset) & image_names(runner.val_loop.dataloader.dataset)
            if both:
                runner.logger.warning(
                    f"{len(both)} images are both trained on and validated with, such as "
                    f"{min(both)}: the scores will be too good"
                )

    def before_test(self, runner: Runner) -> None:
        refuse_other_ignored(runner.cfg)
        _check_scored(runner, "test_dataloader", runner.test_loop)


def _check_scored(runner: Runner, name: str, loop: Any) -> None:
    """The checks that validation and testing have in common."""
    model, loader = bare_model(runner), loop.dataloader
    check_order(name, loader, loop)
    check_windows(model)
    _check_parts(name, model, list(plain_datasets(loader.dataset)))
    check_metrics(model, loop.evaluator.metrics)
    for metric in loop.evaluator.metrics:
        if isinstance(metric, ConfusionMatrixMetric) and metric.interval:
            check_intervals(loader.dataset, metric.interval)
    check_first_sample(name, loader.dataset, loop.evaluator.metrics)
    check_batches(name, loader)


def _check_parts(name: str, model: nn.Module, parts: Sequence[BaseDataset]) -> None:
    check_tasks(model, parts)
    for dataset in parts:
        for step in steps_of(dataset):
            if isinstance(step, LoadBands):
                loader = f"{type(step).__name__} in {name}.dataset.pipeline"
                check_bands(model, loader, step.bands)
        if (classes := dataset.metainfo.get("classes")) is not None:
            check_classes(model, type(dataset).__name__, len(classes))
            for step in steps_of(dataset):
                if isinstance(step, LoadCheckedLabel):
                    classes = list(meta_of(dataset.metainfo, step.task)["classes"])
                    _check_loader(name, type(dataset).__name__, classes, step)
        check_files(dataset)


def _check_loader(name: str, kind: str, classes: list[str], step: LoadCheckedLabel) -> None:
    number = len(classes)
    if step.num_classes != number:
        raise UserError(
            f"{kind} has {number} classes, but LoadCheckedLabel in {name}.dataset.pipeline "
            f"allows {step.num_classes}; set its num_classes={number}"
        )
    if number == 1:
        raise UserError(
            f"{kind} has a single class (num_classes=1), so that nothing can be learned; "
            "name the background, too: metainfo.classes="
            f"['background', {classes[0]!r}], labels of 0 and 1, and "
            "model.decode_head.num_classes=2 (of LoadCheckedLabel, too); out_channels=1 "
            "with loss_decode.use_sigmoid=True is possible then"
        )


def _doubts(
    model: nn.Module, parts: Sequence[BaseDataset], ignored: int, batch: int
) -> Iterator[str]:
    """Settings that are legal but usually mistakes; each is logged as a warning."""
    classes = parts[0].metainfo.get("classes") if parts else None
    if classes is not None and ignored < len(classes):
        yield (
            f"ignore_index={ignored} is class {classes[ignored]!r} too: it is neither trained nor "
            "scored"
        )
    steps = [step for part in parts for step in steps_of(part)]
    loads = [s for s in steps if isinstance(s, LoadAnnotations) and type(s) is not LoadCheckedLabel]
    if ignored != IGNORED and loads:
        yield (
            f"ignore_index={ignored}, but mmseg's LoadAnnotations leaves {IGNORED} in labels that "
            "have it, where the loss fails; use LoadCheckedLabel, or ignore 255"
        )
    for place, fault in weighted_losses(model):
        yield (
            f"{place}: this mmseg's CrossEntropyLoss with class_weight {fault}; use "
            "SkipFusionHead with upsample='bilinear', or reduction='sum', or leave class_weight out"
        )
    size: Any = getattr(getattr(model, "data_preprocessor", None), "size", None)
    crops = {tuple(step.crop_size) for step in steps if isinstance(step, RandomCrop)}
    for crop in crops if size and batch != 1 else ():
        if any(side > most for side, most in zip(crop, size, strict=False)):
            yield (
                f"crops of {crop} are larger than model.data_preprocessor.size={tuple(size)}, to "
                "which smaller ones are padded: images in between make a batch of different "
                f"sizes; set it to {crop}"
            )
