"""Mistakes in the data, found before the first iteration and said in one line.

``check_datasets`` reads a config before anything is built; ``DataCheckHook`` looks at the data
sets that were. What only shows when a file is opened is the business of ``data.loading``.
"""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.datasets import PascalVOCDataset
from mmseg.registry import DATASETS, HOOKS

from fcn_plugin.config import type_name
from fcn_plugin.data.published import command_for
from fcn_plugin.errors import UserError


def _remedy(root: Path, missing: object = "") -> str:
    """How to come by ``missing``, a path in the data set at ``root``, or by all of it."""
    command = command_for(root, str(missing))
    get_it = f"run {command}" if command else "put it there (README, 'Data')"
    return f"{get_it}, or set data_root in the config to where it is"


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
    kind = dataset["type"] if isinstance(dataset["type"], type) else DATASETS.get(dataset["type"])
    known = (getattr(kind, "METAINFO", None) or {}).get("classes")
    classes = (dataset.get("metainfo") or {}).get("classes", ())
    for name in () if isinstance(classes, str) else classes:  # a string names a file of them
        if known and name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
            raise UserError(
                f"{type_name(dataset)} has no class {name!r} (metainfo.classes); {hint}"
            )


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
    for key, folder in (dataset.get("data_prefix") or {}).items():
        if folder and not (root / folder).is_dir():
            raise UserError(
                f"{root / folder}: no such folder ({loader}.dataset.data_prefix.{key}); "
                f"{_remedy(root, folder)}"
            )


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Before a run: every image has its label, and the model scores the data set's classes.

    Images that are both trained on and validated with are warned of.
    """

    def before_train(self, runner: Runner) -> None:
        self._check(runner, runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            self._check(runner, runner.val_dataloader.dataset)
            both = _images(runner.train_dataloader.dataset) & _images(runner.val_dataloader.dataset)
            if both:
                runner.logger.warning(
                    "%d images are both trained on and validated with, such as %s: the scores will "
                    "be too good",
                    len(both),
                    min(both),
                )

    def before_test(self, runner: Runner) -> None:
        self._check(runner, runner.test_dataloader.dataset)

    @staticmethod
    def _check(runner: Runner, dataset: object) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(getattr(model, "module", model), "decode_head", None)
        for part in _parts(dataset):
            _check_num_classes(head, part)
            _check_files(part)


def _parts(dataset: object) -> Iterator[BaseDataset]:
    """The data sets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""
    if isinstance(dataset, BaseDataset):
        yield dataset
    for inner in getattr(dataset, "datasets", None) or [getattr(dataset, "dataset", None)]:
        if inner is not None:
            yield from _parts(inner)


def _images(dataset: object) -> set[str]:
    """What tells the images of a data set from others: PASCAL's names, or else their paths."""
    return {
        Path(path).stem if isinstance(part, PascalVOCDataset) else str(Path(path).resolve())
        for part in _parts(dataset)
        for path in (part.get_data_info(index)["img_path"] for index in range(len(part)))
    }


def _check_num_classes(head: object, dataset: BaseDataset) -> None:
    scored, classes = getattr(head, "num_classes", None), dataset.metainfo.get("classes")
    if scored is not None and classes is not None and scored != len(classes):
        raise UserError(
            f"{type(dataset).__name__} has {len(classes)} classes, but the decode head scores "
            f"{scored}; set model.decode_head.num_classes={len(classes)}"
        )


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
