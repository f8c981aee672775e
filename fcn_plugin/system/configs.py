"""Read configs, of which there are two styles."""

from collections.abc import Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

from mmengine.registry import Registry


def type_name(cfg: object) -> str:
    """The name of the class under ``type`` of a config; '' where there is none.

    In configs of the new style (``read_base``) the class itself stands there, or its whole path if
    mmengine has written them; in others a scope may stand before the name.

    >>> type_name(dict(type="mmcv.Pad"))
    'Pad'
    """
    kind = cfg.get("type") if isinstance(cfg, dict) else None
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    return name.rpartition(".")[2]


def class_of(cfg: object, registry: Registry) -> type | None:
    """The class under ``type`` of a config; None if none of that name is registered."""
    kind = cfg.get("type") if isinstance(cfg, dict) else None
    kind = registry.get(kind) if isinstance(kind, str) and kind else kind
    return kind if isinstance(kind, type) else None


def constructors(kind: type) -> Iterator[Mapping[str, Parameter]]:
    """The parameters of a class's constructor and of its bases', the nearest first."""
    own = (vars(each).get("__init__") for each in kind.__mro__[:-1])
    return (signature(init).parameters for init in own if init is not None)


def one_or_many(node: Any) -> list[Any]:
    """Always a list: [] for None, [x] for one x."""
    return list(node) if isinstance(node, list | tuple) else [node] if node else []


def dicts_in(node: object, path: str = "") -> Iterator[tuple[str, dict]]:
    """All dictionaries in a config, outer ones first, and where they stand."""
    if isinstance(node, dict):
        yield path, node
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    for key, child in list(node.items()) if isinstance(node, dict) else ():
        yield from dicts_in(child, f"{path}.{key}")


def wrapped(dataset: dict) -> list[dict]:
    """The data sets within a wrapper such as ``ConcatDataset``; of a plain one none."""
    inner = one_or_many(dataset.get("datasets") or dataset.get("dataset"))
    return [part for part in inner if isinstance(part, dict)]


def innermost(dataset: dict) -> list[dict]:
    """The plain data sets of a config, through all wrappers; to be read or changed."""
    inner = wrapped(dataset)
    return [plain for part in inner for plain in innermost(part)] if inner else [dataset]


def pipeline_of(dataset: dict) -> list[Any]:
    """The steps from a file to the network's input: those of the first data set, then a wrapper's.

    >>> mixed = dict(dataset=dict(pipeline=["load"]), pipeline=["pack"])
    >>> pipeline_of(dict(datasets=[mixed, dict(pipeline=["other"])]))
    ['load', 'pack']
    """
    inner = wrapped(dataset)
    return [*(pipeline_of(inner[0]) if inner else ()), *(dataset.get("pipeline") or ())]


def set_pipeline(dataset: dict, pipeline: list[Any]) -> None:
    """Give all data sets of a config these steps alone."""
    inner = wrapped(dataset)
    for part in inner:
        set_pipeline(part, pipeline)
    if not inner or "pipeline" in dataset:
        dataset["pipeline"] = [] if inner else pipeline


def dotted_settings(node: object, name: str) -> Iterator[tuple[str, str]]:
    """The settings below ``name`` with their full names, as ``--cfg-options`` takes them.

    A list of plain values is one setting, and a tuple is written as a list.

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
