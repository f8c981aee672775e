"""What a run's config and logs say of its weights; nothing is made up."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mmengine.config import Config

from fcn_plugin.errors import without_secrets
from fcn_plugin.report.logs import Training, read_training, session_folders
from fcn_plugin.report.origin import dataset_title
from fcn_plugin.report.run import PLACES, settings
from fcn_plugin.system.configs import dicts_in, pipeline_of, type_name
from fcn_plugin.weights.sources import SOURCES

UNKNOWN = "unknown"
NOT_RECORDED = "not recorded"  # name of weights that a training may have started from
TRAINING = (
    "train_cfg.max_iters",
    "train_cfg.max_epochs",
    "train_dataloader.batch_size",
    "optim_wrapper.optimizer.type",
    "optim_wrapper.optimizer.lr",
    "optim_wrapper.optimizer.momentum",
    "optim_wrapper.optimizer.weight_decay",
    "randomness.seed",
)


@dataclass(frozen=True)
class Facts:
    """What a card tells of a run besides its scores.

    Attributes:
        architecture: class names of segmentor, backbone and head.
        trained_on, validated_on: data sets and splits, in words.
        initial: weights that the training started from -> their licence; empty: from scratch.
        settings: of the training, by dotted name.
        steps: what the test pipeline does with a picture that it has loaded, as in a config.
        training: content of the logs.
    """

    architecture: tuple[str, ...]
    trained_on: str
    validated_on: str
    initial: dict[str, str]
    settings: dict[str, str]
    steps: list[str]
    training: Training


def facts_of(work_dir: Path, cfg: Config) -> Facts:
    """The facts of the run in ``work_dir``; ``cfg`` is its public config."""
    parts = (cfg.model, cfg.model.get("backbone"), cfg.model.get("decode_head"))
    heads = parts[2] if isinstance(parts[2], list) else [parts[2]]
    chosen = settings(cfg)
    return Facts(
        architecture=tuple(filter(None, map(type_name, (*parts[:2], *heads)))),
        trained_on=title_of(cfg, "train_dataloader"),
        validated_on=title_of(cfg, "val_dataloader"),
        initial=dict(_initial(work_dir, cfg)),
        settings={name: chosen[name] for name in TRAINING if name in chosen},
        steps=[_written(step) for step in pipeline_of(cfg.test_dataloader.dataset) if _sees(step)],
        training=read_training(work_dir),
    )


def title_of(cfg: Config, loader: str) -> str:
    """Data set and split of a loader, in words; "nothing" without such a loader."""
    settings = cfg.get(loader)
    return dataset_title(cfg, settings.dataset) if settings else "nothing"


def public(cfg: Config) -> Config:
    """A run's config without what belongs to one machine or user: where it ran, and folders.

    Of an absolute path, or one from a home folder, the last name is kept; an address loses the
    user, password and query in it. What the training started from (``load_from``) is left out too,
    since a training with this config would look for it.
    """
    kept = {key: value for key, value in cfg.to_dict().items() if key not in (*PLACES, "load_from")}
    return Config(_without_folders(kept))


def _without_folders(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_folders(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(map(_without_folders, node))
    if isinstance(node, str):
        text = without_secrets(node.removeprefix("file://"))
        kinds = (PurePosixPath(text), PureWindowsPath(text))
        private = (path.name for path in kinds if path.is_absolute() or text.startswith("~"))
        return next(filter(None, private), text)
    return node


def _initial(work_dir: Path, cfg: Config) -> Iterator[tuple[str, str]]:
    """The names of the weights that the run started from, and their licences."""
    names = [*_of_model(cfg), _loaded(work_dir)]
    for name in filter(None, names):
        source = SOURCES.get(name)
        title = _without_folders(name)
        title = title if "://" in title else Path(title).name
        yield title, (source.licence if source else "") or UNKNOWN


def _loaded(work_dir: Path) -> str | None:
    """What the run's first session loaded: the last one that did not resume an earlier one.

    Without such a session it is what the oldest one resumed from.
    """
    name: str | None = NOT_RECORDED
    for folder in reversed(session_folders(work_dir)):
        file = folder / "vis_data/config.py"
        cfg = Config.fromfile(file) if file.is_file() else Config(dict(load_from=NOT_RECORDED))
        name = cfg.get("load_from")
        if not cfg.get("resume"):
            break
    return name


def _of_model(cfg: Config) -> Iterator[str | None]:
    """What ``init_cfg`` and ``pretrained`` name; of a library that has its own, the network's."""
    for path, part in dicts_in(cfg.model):
        if "init_cfg" in path:
            yield part.get("checkpoint")
        named = part.get("pretrained")
        if named is True:
            yield f"{part.get('model_name', type_name(part))} as its library provides it"
        elif named:
            yield str(named)


def _sees(step: dict) -> bool:
    """Whether a step is about what the network sees, not about files, labels and form."""
    return not type_name(step).startswith("Load") and "Pack" not in type_name(step)


def _written(step: dict) -> str:
    options = ", ".join(f"{name}={value!r}" for name, value in step.items() if name != "type")
    return f"{type_name(step)}({options})"
