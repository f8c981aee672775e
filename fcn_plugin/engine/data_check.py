"""Mistakes in the data, found before the first iteration and said in one line.

``check_datasets`` reads a config before anything is built; ``DataCheckHook`` looks at what was:
data sets, and by ``model_check``, ``run_check`` and ``sample_check`` what a run would die of later.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine import list_from_file
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset, PascalVOCDataset
from mmseg.datasets.transforms import RandomCrop
from mmseg.registry import DATASETS, HOOKS
from torch import nn

from fcn_plugin.config import type_name
from fcn_plugin.data.loading import LoadCheckedLabel
from fcn_plugin.data.numbering import set_colours
from fcn_plugin.data.originals import plain_datasets
from fcn_plugin.data.published import command_for
from fcn_plugin.engine.ignored import ignored_number, refuse_other_ignored, unify_ignored
from fcn_plugin.engine.loader_check import prepare_loaders
from fcn_plugin.engine.model_check import (
    check_classes,
    check_losses,
    check_windows,
    losses_failing_on_void,
    pooled_batch_norm,
)
from fcn_plugin.engine.run_check import (
    batch_size,
    check_order,
    check_scores,
    check_settings,
    smallest_batch,
)
from fcn_plugin.engine.sample_check import check_batches, check_first_sample, check_labels
from fcn_plugin.errors import UserError


def _remedy(root: Path, missing: object = "") -> str:
    """How to come by ``missing``, a path in the data set at ``root``, or by all of it."""
    command = command_for(root, str(missing))
    get_it = f"run {command}" if command else "put it there (README, 'Data')"
    return f"{get_it}, or set data_root in the config to where it is"


def check_config(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Refuse what of ``cfg`` cannot be run, and have the rest checked before the first iteration.

    Loaders are given up after a time, one number for ignored pixels is set everywhere, each class
    gets its own colour, and ``DataCheckHook`` is added if it is not there.
    ``loaders`` are the keys of the data loaders that are going to be used.

    Raises:
        UserError: a part of the config or of the installation is missing or wrong.
    """
    check_settings(cfg)
    check_datasets(cfg, loaders)
    prepare_loaders(cfg, loaders)
    unify_ignored(cfg)
    for name in loaders:
        set_colours(cfg.get(name) or {})
    hooks = cfg.get("custom_hooks") or []
    if not any(type_name(hook) == "DataCheckHook" for hook in hooks):
        cfg.custom_hooks = [dict(type="DataCheckHook"), *hooks]


def check_datasets(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Refuse data sets of ``cfg`` whose folders or lists are missing or whose classes are misspelt.

    ``loaders`` are the keys of the data loaders that are going to be used.
    """
    for loader in loaders:
        for dataset in _dataset_configs(cfg.get(loader, {})):
            _refuse_wrapped(dataset, loader)
            _check_classes(dataset)
            if not dataset.get("backend_args"):  # else it is not on this machine's disk
                _check_paths(dataset, loader)


def _dataset_configs(node: object) -> Iterator[dict]:
    """The configs of data sets within ``node``, those inside wrappers included."""
    if isinstance(node, dict):
        if "data_root" in node or "ann_file" in node:
            yield node
        for child in node.values():
            yield from _dataset_configs(child)
    elif isinstance(node, list | tuple):
        for child in node:
            yield from _dataset_configs(child)


def _refuse_wrapped(dataset: dict, loader: str) -> None:
    """A list or root given to a wrapper, which has none, and meant for what it wraps."""
    inner = "datasets.0" if "datasets" in dataset else "dataset" if "dataset" in dataset else None
    for key in ("data_root", "ann_file", "data_prefix"):
        if inner and key in dataset:
            raise UserError(
                f"{loader}.dataset.{key}: this {type_name(dataset)} wraps others; set "
                f"{loader}.dataset.{inner}.{key}"
            )


def _check_classes(dataset: dict) -> None:
    kind = _kind(dataset)
    known = (getattr(kind, "METAINFO", None) or {}).get("classes")
    metainfo = dataset.get("metainfo") or {}
    classes = metainfo.get("classes", known or ())
    if isinstance(classes, str):  # names a file of them
        if not Path(classes).is_file() and "://" not in classes:
            raise UserError(
                f"metainfo.classes={classes!r} of {type_name(dataset)} is one text, and no file of "
                f"that name is there; give a list of all names, such as ['background', {classes!r}]"
            )
        classes = list_from_file(classes)
    for name in classes:
        if known and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise UserError(
                f"{type_name(dataset)} has no class {name!r} (metainfo.classes); {hint}"
            )
    _check_palette(dataset, metainfo.get("palette"), len(classes), len(known or ()))


def _check_palette(dataset: dict, palette: Any, classes: int, known: int) -> None:
    if not palette or isinstance(palette, str):  # mmseg draws one
        return
    # Of some of a data set's own classes mmseg takes their colours out of all.
    if len(palette) not in (classes, known):
        raise UserError(
            f"metainfo.palette of {type_name(dataset)} has {len(palette)} colours for {classes} "
            "classes; give one for each, or leave the palette out"
        )
    for colour in palette:
        if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
            raise UserError(
                f"metainfo.palette of {type_name(dataset)} has {list(colour)}; give red, green and "
                "blue from 0 to 255"
            )


def _kind(dataset: dict) -> Any:
    return dataset["type"] if isinstance(dataset["type"], type) else DATASETS.get(dataset["type"])


def _check_paths(dataset: dict, loader: str) -> None:
    root = Path(dataset.get("data_root") or "")
    if not root.is_dir():
        raise UserError(f"{root}: no such folder ({loader}.dataset.data_root); {_remedy(root)}")
    ann_file = dataset.get("ann_file")
    if ann_file:
        found, at = root / ann_file, f"({loader}.dataset.ann_file); {_remedy(root, ann_file)}"
        if not found.is_file():
            raise UserError(f"{found}: no such list {at}")
        if not found.read_text().strip():
            raise UserError(f"{found}: the list is empty {at}")
    prefix = dataset.get("data_prefix") or {}
    for key, folder in prefix.items():
        if folder and not (root / folder).is_dir():
            raise UserError(
                f"{root / folder}: no such folder ({loader}.dataset.data_prefix.{key}); "
                f"{_remedy(root, folder)}"
            )
    kind = _kind(dataset)
    if not ann_file and isinstance(kind, type) and issubclass(kind, BaseSegDataset):
        defaults = {name: p.default for name, p in signature(kind).parameters.items()}
        suffix = dataset.get("img_suffix", defaults.get("img_suffix"))
        if isinstance(suffix, str) and not defaults.get("ann_file"):
            _check_suffix(root / (prefix.get("img_path") or ""), suffix, loader)


def _check_suffix(folder: Path, suffix: str, loader: str) -> None:
    """All images of a folder make up the data set; in an empty one samplers search for ever."""
    if any(path.name.endswith(suffix) for path in folder.rglob("*")):
        return
    suffixes = sorted({path.suffix for path in folder.rglob("*") if path.is_file()})
    there = f"it has {', '.join(suffixes)}" if suffixes else "it is empty"
    raise UserError(
        f"{folder}: no image ends with {suffix!r}, {there}; set {loader}.dataset.img_suffix"
    )


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Before the first iteration: what would stop or spoil the run later, in one line.

    Every image has its label; all heads and label loaders know the data set's classes; one number
    stands for ignored pixels; the data end where a loop waits for it; losses, windows and BatchNorm
    can work; the first image to be scored is loaded; batches can be stacked; the scores are those
    that are waited for. Warns of images that are both trained on and validated with, and of classes
    that no label has.

    Raises:
        UserError: any of these is not so.
    """

    def before_train(self, runner: Runner) -> None:
        refuse_other_ignored(runner.cfg)
        model, loader = _bare_model(runner), runner.train_dataloader
        parts = list(plain_datasets(loader.dataset))
        check_order("train_dataloader", loader, runner.train_loop)
        _check_parts("train_dataloader", model, parts)
        check_losses(model, get_device())
        layer = pooled_batch_norm(model)
        if layer and smallest_batch(loader, runner.train_loop) == 1:
            raise UserError(
                f"{layer} normalises one pixel of each image, which takes two images or more, but "
                "a batch of training has 1; set train_dataloader.batch_size=2, or drop_last=True "
                "where only the last has 1"
            )
        for warning in _doubts(model, parts, ignored_number(runner.cfg), batch_size(loader)):
            runner.logger.warning(warning)
        if is_main_process():
            check_labels(parts, runner.logger)
        if runner.val_loop is not None:
            _check_scored(runner, "val_dataloader", runner.val_loop)
            check_scores(runner.val_loop.evaluator.metrics, runner.hooks)
            both = _images(loader.dataset) & _images(runner.val_loop.dataloader.dataset)
            if both:
                runner.logger.warning(
                    "%d images are both trained on and validated with, such as %s: the scores will "
                    "be too good",
                    len(both),
                    min(both),
                )

    def before_test(self, runner: Runner) -> None:
        refuse_other_ignored(runner.cfg)
        _check_scored(runner, "test_dataloader", runner.test_loop)


def _bare_model(runner: Runner) -> nn.Module:
    """The segmentor, out of its wrappers for several processes and test-time augmentation."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return getattr(model, "module", model)


def _check_scored(runner: Runner, name: str, loop: Any) -> None:
    """What validation and testing have in common."""
    model, loader = _bare_model(runner), loop.dataloader
    check_order(name, loader, loop)
    check_windows(model)
    _check_parts(name, model, list(plain_datasets(loader.dataset)))
    check_first_sample(name, loader.dataset, loop.evaluator.metrics)
    check_batches(name, loader)


def _check_parts(name: str, model: nn.Module, parts: Sequence[BaseDataset]) -> None:
    for dataset in parts:
        classes = dataset.metainfo.get("classes")
        if classes is not None:
            _check_numbers(name, model, dataset, list(classes))
        _check_files(dataset)


def _check_numbers(name: str, model: nn.Module, dataset: BaseDataset, classes: list[str]) -> None:
    kind, number = type(dataset).__name__, len(classes)
    check_classes(model, kind, number)
    for step in _steps(dataset):
        if isinstance(step, LoadCheckedLabel):
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


def _steps(dataset: BaseDataset) -> Sequence[Any]:
    return getattr(dataset.pipeline, "transforms", ())


def _doubts(
    model: nn.Module, parts: Sequence[BaseDataset], ignored: int, batch: int
) -> Iterator[str]:
    """What may be meant, but more often is not."""
    classes = parts[0].metainfo.get("classes") if parts else None
    if classes is not None and ignored < len(classes):
        yield (
            f"ignore_index={ignored} is class {classes[ignored]!r} too: it is neither trained nor "
            "scored"
        )
    for place in losses_failing_on_void(model):
        yield (
            f"{place}: mmseg's CrossEntropyLoss with class_weight fails on ignored pixels; if "
            "there are any, use SkipFusionHead, or reduction='sum', or leave class_weight out"
        )
    size: Any = getattr(getattr(model, "data_preprocessor", None), "size", None)
    steps = [step for part in parts for step in _steps(part) if isinstance(step, RandomCrop)]
    for crop in {tuple(step.crop_size) for step in steps} if size and batch != 1 else ():
        if any(side > room for side, room in zip(crop, size, strict=False)):
            yield (
                f"crops of {crop} are larger than model.data_preprocessor.size={tuple(size)}, to "
                "which smaller ones are padded: images in between make a batch of different "
                f"sizes; set it to {crop}"
            )


def _images(dataset: object) -> set[str]:
    """What tells the images of a data set from others: PASCAL's names, or else their paths."""
    return {
        Path(path).stem if isinstance(part, PascalVOCDataset) else str(Path(path).resolve())
        for part in plain_datasets(dataset)
        for path in (part.get_data_info(index)["img_path"] for index in range(len(part)))
    }


def _check_files(dataset: BaseDataset) -> None:
    if getattr(dataset, "backend_args", None):
        return
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        image, label = info["img_path"], info.get("seg_map_path")
        if not Path(image).is_file():
            raise UserError(f"{image}: no such image; {_remedy(Path(dataset.data_root or ''))}")
        if label and not Path(label).is_file():
            raise UserError(
                f"{label}: no such label, though {image} is there; add the label or take the "
                "image off the list"
            )
