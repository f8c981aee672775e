"""The classes that a checkpoint scores: their names and colours."""

from typing import Any

from mmseg.registry import DATASETS

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES
from fcn_plugin.errors import UserError

VOC_CLASSES = 21  # of PASCAL VOC, background among them


def classes_of_dataset(dataset: str) -> dict[str, Any]:
    """``classes`` and ``palette`` of a data set of mmseg."""
    meta = getattr(DATASETS.get(dataset), "METAINFO", None) or {}
    if "classes" not in meta or "palette" not in meta:
        raise UserError(
            f"--dataset {dataset}: no data set of mmseg with classes; e.g. "
            "PascalVOCDataset, PascalContextDataset59, ADE20KDataset, CamVidDataset"
        )
    return meta


def classes_by_number(count: int) -> dict[str, Any]:
    """Those of the published network with so many, else plain numbers in VOC's colours."""
    if count == len(PUBLISHED_CLASSES):
        meta = DATASETS.get("PascalContextDataset").METAINFO
        colours = dict(zip(meta["classes"], meta["palette"], strict=True))
        return dict(classes=PUBLISHED_CLASSES, palette=[colours[c] for c in PUBLISHED_CLASSES])
    if count == VOC_CLASSES:
        return DATASETS.get("PascalVOCDataset").METAINFO
    palette = voc_palette()
    return dict(
        classes=[f"class {i}" for i in range(count)],
        palette=[palette[i % len(palette)] for i in range(count)],
    )


def storable(meta: dict[str, Any]) -> dict[str, Any]:
    """``meta`` as a checkpoint stores it; colours are added where there are none."""
    palette = meta.get("palette") or classes_by_number(len(meta["classes"]))["palette"]
    return dict(meta, classes=tuple(meta["classes"]), palette=[list(c) for c in palette])
