"""Find, read and change configs of mmengine's old style (type names) and new style (classes)."""

import os
from collections.abc import Iterator, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_plugin.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from mmengine.registry import Registry


def shipped_configs() -> Path:
    """The folder of fcn_plugin's own configs: in the clone, or in the installed package."""
    package = Path(__file__).resolve().parents[1]
    installed = package / ".mim" / "configs"
    return (installed if installed.is_dir() else package.with_name("configs")).resolve()


def bases_from(root: Path) -> str:
    """The path of the shipped configs, relative to ``root`` if both are in one clone."""
    shipped = shipped_configs()
    if root.resolve().is_relative_to(shipped.parent):
        return Path(os.path.relpath(shipped, root.resolve())).as_posix()
    return shipped.as_posix()


def config_file(config: str | Path) -> Path:
    """The file of a config: the path itself if it exists, else the shipped config of this name.

    Args:
        config: a path, or a name such as "fcn8s_vgg16_voc", with or without ".py".

    Raises:
        UserError: there is neither.
    """
    if Path(config).is_file():
        return Path(config)
    shipped = {file.stem: file for file in shipped_configs().glob("*.py")}
    if file := shipped.get(str(config).removesuffix(".py")):
        return file
    hint = did_you_mean(Path(config).stem, shipped, "give a file, or a name")
    raise UserError(f"{config}: no such config; {hint} (fcn-plugin configs lists the shipped ones)")


def type_name(cfg: object) -> str:
    """The class name under ``type`` in a config, without its scope or module; '' if none.

    Configs of the new style (``read_base``) have the class itself there, or its full path after
    mmengine has saved them.

    >>> type_name(dict(type="mmcv.Pad"))
    'Pad'
    """
    kind = cfg.get("type") if isinstance(cfg, dict) else None
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return name.rpartition(".")[2]


def class_of(cfg: object, registry: "Registry") -> type | None:
    """The class under ``type`` in a config; None if no class of that name is registered."""
    kind = cfg.get("type") if isinstance(cfg, dict) else None
    kind = registry.get(kind) if isinstance(kind, str) and kind else kind
    return kind if isinstance(kind, type) else None


def constructors(kind: type) -> Iterator[Mapping[str, Parameter]]:
    """The parameters of a class's constructor, then of its base classes', the nearest first."""
    inits = (vars(base).get("__init__") for base in kind.__mro__[:-1])
    return (signature(init).parameters for init in inits if init is not None)


def one_or_many(node: Any) -> list[Any]:
    """``node`` as a list: [] for None, [x] for a single x."""
    return list(node) if isinstance(node, list | tuple) else [node] if node else []


def dicts_in(node: object, path: str = "") -> Iterator[tuple[str, dict]]:
    """(path, dictionary) for all dictionaries in a config, outer ones first."""
    if isinstance(node, dict):
        yield path, node
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    for key, child in list(node.items()) if isinstance(node, dict) else ():
        yield from dicts_in(child, f"{path}.{key}")


def wrapped(dataset: dict) -> list[dict]:
    """The configs directly inside a wrapper such as ``ConcatDataset``; [] for a plain data set."""
    inner = one_or_many(dataset.get("datasets") or dataset.get("dataset"))
    return [part for part in inner if isinstance(part, dict)]


def innermost(dataset: dict) -> list[dict]:
    """The configs of the plain data sets inside all wrappers; not copies."""
    inner = wrapped(dataset)
    return [plain for part in inner for plain in innermost(part)] if inner else [dataset]


def pipeline_of(dataset: dict) -> list[Any]:
    """The steps from a file to the network's input: the first data set's, then its wrappers'.

    >>> mixed = dict(dataset=dict(pipeline=["load"]), pipeline=["pack"])
    >>> pipeline_of(dict(datasets=[mixed, dict(pipeline=["other"])]))
    ['load', 'pack']
    """
    inner = wrapped(dataset)
    return [*(pipeline_of(inner[0]) if inner else ()), *(dataset.get("pipeline") or ())]


def set_pipeline(dataset: dict, pipeline: list[Any]) -> None:
    """Set the pipeline of all data sets in a config; wrappers' pipelines become empty."""
    inner = wrapped(dataset)
    for part in inner:
        set_pipeline(part, pipeline)
    if not inner or "pipeline" in dataset:
        dataset["pipeline"] = [] if inner else pipeline


def dotted_settings(node: object, name: str) -> Iterator[tuple[str, str]]:
    """(full name, value) of the settings below ``name``, in the format of ``--cfg-options``.

    A list of plain values is one setting; a tuple is written as a list.

    >>> dict(dotted_settings(dict(lr=0.1, steps=(1, 2), hooks=[dict(type="A")]), "optim"))
    {'optim.lr': '0.1', 'optim.steps': '[1, 2]', 'optim.hooks.0.type': "'A'"}
    """
    if isinstance(node, dict):
        for key, child in node.items():
            yield from dotted_settings(child, f"{name}.{key}")
    elif isinstance(node, list | tuple) and any(isinstance(child, dict) for child in node):
        for i, child in enumerate(node):
            yield from dotted_settings(child, f"{name}.{i}")
    else:
        yield name, repr(list(node) if isinstance(node, tuple) else node)
