"""Names and colours of the classes that a checkpoint scores."""

from typing import Any

from mmseg.registry import DATASETS

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.nyud import NAMES, NYUDv2Dataset
from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES
from fcn_plugin.data.siftflow import GEOMETRIC, SEMANTIC, SIFTFlowDataset
from fcn_plugin.data.tasks import TASKS
from fcn_plugin.errors import UserError
from fcn_plugin.weights.recognise import Weights

VOC_CLASSES = 21  # with background


def classes_of(
    weights: Weights, dataset: str | None, num_classes: int | None
) -> tuple[dict[str, Any], list[int] | None]:
    """Names and colours of the classes to score, and the index of each in the source.

    The second is None if the source scores other classes.
    """
    count = weights.num_classes
    source = weights.dataset_meta or classes_of_tasks(count or VOC_CLASSES, weights.tasks)
    if dataset is None:
        if count is not None and num_classes in (None, count):
            return storable(source), list(range(count))
        return storable(classes_by_number(num_classes) if num_classes else source), None
    meta = getattr(DATASETS.get(dataset), "METAINFO", None) or {}
    if "classes" not in meta or "palette" not in meta:
        raise UserError(
            f"--dataset {dataset}: mmseg has no such data set with classes and colours; give e.g. "
            "PascalVOCDataset, PascalContextDataset59, ADE20KDataset, CamVidDataset"
        )
    meta = storable(meta)
    if num_classes not in (None, len(meta["classes"])):
        raise UserError(
            f"--dataset {dataset} has {len(meta['classes'])} classes, --num-classes says "
            f"{num_classes}; leave one out"
        )
    names = list(source["classes"])
    meta = {TASKS: source[TASKS], **meta} if TASKS in source else meta
    if count == len(names) and set(names) == set(meta["classes"]):
        return meta, [names.index(name) for name in meta["classes"]]
    return meta, None


def classes_of_tasks(count: int, tasks: dict[str, int]) -> dict[str, Any]:
    """``classes_by_number`` of the main task, and of further ones by their numbers of classes."""
    if (count, tasks) == (len(SEMANTIC), {"geo": len(GEOMETRIC)}):
        return SIFTFlowDataset.METAINFO
    meta = classes_by_number(count)
    return {**meta, TASKS: {k: _by_index(n) for k, n in tasks.items()}} if tasks else meta


def classes_by_number(count: int) -> dict[str, Any]:
    """Classes of the published network with ``count`` of them, else "class 0", "class 1", ..."""
    if count == len(PUBLISHED_CLASSES):
        meta = DATASETS.get("PascalContextDataset").METAINFO
        colours = dict(zip(meta["classes"], meta["palette"], strict=True))
        return dict(classes=PUBLISHED_CLASSES, palette=[colours[c] for c in PUBLISHED_CLASSES])
    if count == len(NAMES):
        return NYUDv2Dataset.METAINFO
    if count == VOC_CLASSES:
        return DATASETS.get("PascalVOCDataset").METAINFO
    return _by_index(count)


def _by_index(count: int) -> dict[str, Any]:
    palette = voc_palette()
    return dict(
        classes=[f"class {i}" for i in range(count)],
        palette=[palette[i % len(palette)] for i in range(count)],
    )


def storable(meta: dict[str, Any]) -> dict[str, Any]:
    """``meta`` as a checkpoint stores it; a palette is added if there is none."""
    palette = meta.get("palette") or classes_by_number(len(meta["classes"]))["palette"]
    return dict(meta, classes=tuple(meta["classes"]), palette=[list(c) for c in palette])
