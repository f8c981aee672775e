"""Check the settings, data sets and data loaders of a config before anything is built from it."""

import os
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from mmengine import list_from_file
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from fcn_plugin.checks.ignored import unify_ignored
from fcn_plugin.data.catalogue import command_for
from fcn_plugin.data.numbering import set_colours
from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.system.configs import class_of, dicts_in, type_name

# Settings that belong together: the runner needs all of a row or none.
TOGETHER = (
    ("train_dataloader", "train_cfg", "optim_wrapper"),
    ("val_dataloader", "val_cfg", "val_evaluator"),
    ("test_dataloader", "test_cfg", "test_evaluator"),
)
# Optional packages that mmengine's backends need: any one of a row is enough.
BACKENDS = dict(
    TensorboardVisBackend=("tensorboard", "tensorboardX"),
    WandbVisBackend=("wandb",),
    MLflowVisBackend=("mlflow",),
    ClearMLVisBackend=("clearml",),
    NeptuneVisBackend=("neptune",),
    DVCLiveVisBackend=("dvclive",),
    AimVisBackend=("aim",),
)
# Seconds to wait for a batch, far longer than any disk takes; the same as dist_cfg.timeout.
PATIENCE = 600
# Each tensor that a worker hands over is an open file in both processes.
TENSORS = 2  # in a sample: image and label
OTHERS = 64  # other open files of a run: libraries, logs, devices
PER_WORKER = 8  # pipes and locks


def check_config(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Check ``cfg`` and complete it; ``loaders`` are the keys of the data loaders to be used.

    Sets a timeout for loaders with workers, the same ignore index everywhere and a colour for each
    class; adds ``DataCheckHook`` if it is missing.

    Raises:
        UserError: a part of the config or of the installation is missing or wrong.
    """
    check_datasets(cfg, loaders)
    prepare_loaders(cfg, loaders)
    unify_ignored(cfg)
    for name in loaders:
        set_colours(cfg.get(name) or {})
    hooks = cfg.get("custom_hooks") or []
    if not any(type_name(hook) == "DataCheckHook" for hook in hooks):
        cfg.custom_hooks = [dict(type="DataCheckHook"), *hooks]


def check_settings(cfg: Config) -> None:
    """Raise ``UserError`` if related settings are incomplete or a visualizer is not installed."""
    for row in TOGETHER:
        present = [key for key in row if cfg.get(key) is not None]
        missing = [key for key in row if cfg.get(key) is None]
        if present and missing:
            raise UserError(
                f"the config has {' and '.join(present)}, but no {' and no '.join(missing)}; add "
                f"it, or set {'=None '.join(present)}=None"
            )
    backends = (cfg.get("visualizer") or {}).get("vis_backends") or ()
    for index, backend in enumerate(backends):
        packages = BACKENDS.get(type_name(backend), ())
        if packages and not any(map(is_installed, packages)):
            raise UserError(
                f"visualizer.vis_backends.{index}: {type_name(backend)} needs {packages[0]}, which "
                f"is not installed; pip install {packages[0]}, or take it out of the list"
            )


def is_installed(package: str) -> bool:
    """Whether ``package`` is installed; a mere folder, such as wandb leaves, does not count."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


# --- data loaders --------------------------------------------------------------------------------


def prepare_loaders(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Give loaders with workers a ``timeout``, and raise the limit of open files for them.

    A worker that cannot open another file loses its batch: the run would wait for it forever.

    Raises:
        UserError: the system's limit (``ulimit -n``) is too low for them.
    """
    least, most = {}, OTHERS
    for key in loaders:
        loader = cfg.get(key) or {}
        if not (workers := loader.get("num_workers")):
            continue
        loader.setdefault("timeout", PATIENCE)
        batch = TENSORS * int(loader.get("batch_size") or 1)
        ahead = batch * int(loader.get("prefetch_factor") or 2)
        # least: of a worker that has prefetched all it may; most: of a run that waits for one
        # worker while all others have prefetched all they may.
        least[key] = OTHERS + ahead + PER_WORKER * workers
        most += (ahead + PER_WORKER) * (workers + 1)
    allowed = _raise_limit(most)
    for key, files in least.items():
        if files > allowed:
            raise UserError(
                f"{key}: its workers need about {files} open files, and ulimit -n allows "
                f"{allowed}; raise that, or set {key}.num_workers=0"
            )


def _raise_limit(wanted: int) -> float:
    """Raise the limit of open files to ``wanted`` if the system allows it; return the limit."""
    if os.name != "posix":
        return float("inf")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return float("inf") if soft == unlimited else soft


# --- data sets -----------------------------------------------------------------------------------


def check_datasets(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Raise ``UserError`` for data sets with missing folders or lists or misspelt classes."""
    for loader in loaders:
        for _, dataset in dicts_in(cfg.get(loader)):
            if "data_root" not in dataset and "ann_file" not in dataset:
                continue
            _refuse_wrapped(dataset, loader)
            _check_classes(dataset)
            if not dataset.get("backend_args"):  # else it is not on this machine's disk
                _check_paths(dataset, loader)


def _refuse_wrapped(dataset: dict, loader: str) -> None:
    """Refuse data_root, ann_file or data_prefix on a wrapper: the inner data set has them."""
    inner = "datasets.0" if "datasets" in dataset else "dataset" if "dataset" in dataset else None
    for key in ("data_root", "ann_file", "data_prefix"):
        if inner and key in dataset:
            raise UserError(
                f"{loader}.dataset.{key}: this {type_name(dataset)} wraps others; set "
                f"{loader}.dataset.{inner}.{key}"
            )


def _check_classes(dataset: dict) -> None:
    shipped = (getattr(class_of(dataset, DATASETS), "METAINFO", None) or {}).get("classes")
    metainfo = dataset.get("metainfo") or {}
    classes = metainfo.get("classes", shipped or ())
    if isinstance(classes, str):  # the name of a file that lists them
        if not Path(classes).is_file() and "://" not in classes:
            raise UserError(
                f"metainfo.classes={classes!r} of {type_name(dataset)} is a string, and no such "
                f"file exists; give a list of all names, such as ['background', {classes!r}]"
            )
        classes = list_from_file(classes)
    for name in classes:
        if shipped and name not in shipped:
            hint = did_you_mean(name, shipped, f"it has {', '.join(shipped)}")
            raise UserError(
                f"{type_name(dataset)} has no class {name!r} (metainfo.classes); {hint}"
            )
    _check_palette(dataset, metainfo.get("palette"), len(classes), len(shipped or ()))


def _check_palette(dataset: dict, palette: Any, classes: int, shipped: int) -> None:
    if not palette or isinstance(palette, str):  # mmseg draws random colours
        return
    # If only some of its classes are used, mmseg picks their colours from the full palette.
    if len(palette) not in (classes, shipped):
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


def _check_paths(dataset: dict, loader: str) -> None:
    root, at = Path(dataset.get("data_root") or ""), f"{loader}.dataset"
    if not root.is_dir():
        raise UserError(f"{root}: no such folder ({at}.data_root); {remedy(root)}")
    if ann_file := dataset.get("ann_file"):
        list_file, where = root / ann_file, f"({at}.ann_file); {remedy(root, ann_file)}"
        if not list_file.is_file():
            raise UserError(f"{list_file}: no such list {where}")
        if not list_file.read_text().strip():
            raise UserError(f"{list_file}: the list is empty {where}")
    prefix = dataset.get("data_prefix") or {}
    for key, folder in prefix.items():
        if folder and not (root / folder).is_dir():
            raise UserError(
                f"{root / folder}: no such folder ({at}.data_prefix.{key}); {remedy(root, folder)}"
            )
    kind = class_of(dataset, DATASETS)
    if not ann_file and kind and issubclass(kind, BaseSegDataset):
        defaults = {name: p.default for name, p in signature(kind).parameters.items()}
        suffix = dataset.get("img_suffix", defaults.get("img_suffix"))
        if isinstance(suffix, str) and not defaults.get("ann_file"):
            _check_suffix(root / (prefix.get("img_path") or ""), suffix, at)


def _check_suffix(folder: Path, suffix: str, at: str) -> None:
    """Without a list the folder is the data set; if it is empty, samplers search forever."""
    if any(path.name.endswith(suffix) for path in folder.rglob("*")):
        return
    suffixes = sorted({path.suffix for path in folder.rglob("*") if path.is_file()})
    there = f"it has {', '.join(suffixes)}" if suffixes else "it is empty"
    raise UserError(f"{folder}: no image ends with {suffix!r}, {there}; set {at}.img_suffix")


def remedy(root: Path, missing: object = "") -> str:
    """How to get ``missing``, a path in the data set at ``root``, or the whole data set."""
    command = command_for(root, str(missing))
    get_it = f"run {command}" if command else "put it there (docs/data.md)"
    return f"{get_it}, or set data_root in the config to where it is"
