"""The classes that a checkpoint scores: their names and colours."""

from typing import Any

from mmseg.registry import DATASETS

from fcn_plugin.data.drawing import voc_palette
from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES
from fcn_plugin.errors import UserError

VOC_CLASSES = 21  # of PASCAL VOC, background among them


def dataset_meta(
    stored: dict[str, Any] | None,
    own: int | None,
    dataset: str | None = None,
    num_classes: int | None = None,
) -> dict[str, Any]:
    """``classes`` and ``palette`` for a checkpoint, as the host's data sets have them.

    Args:
        stored: what the source has of it.
        own: how many classes the source scores; None if it scores none.
        dataset: the data set of the host that was asked for.
        num_classes: the number that was asked for.
    """
    if dataset is not None:
        meta = getattr(DATASETS.get(dataset), "METAINFO", None) or {}
        if "classes" not in meta or "palette" not in meta:
            raise UserError(
                f"--dataset {dataset}: no data set of the host with classes; e.g. "
                "PascalVOCDataset, PascalContextDataset59, ADE20KDataset, CamVidDataset"
            )
        if num_classes not in (None, len(meta["classes"])):
            raise UserError(
                f"--dataset {dataset} has {len(meta['classes'])} classes, --num-classes says "
                f"{num_classes}; leave one out"
            )
    elif stored and num_classes in (None, own):
        meta = stored
    else:
        meta = _published(num_classes or own or VOC_CLASSES)
    return dict(
        classes=tuple(meta["classes"]), palette=[list(colour) for colour in meta["palette"]]
    )


def _published(count: int) -> dict[str, Any]:
    """Of the published networks by their number, else plain numbers in VOC's colours."""
    if count == len(PUBLISHED_CLASSES):
        host = DATASETS.get("PascalContextDataset").METAINFO
        colours = dict(zip(host["classes"], host["palette"], strict=True))
        return dict(classes=PUBLISHED_CLASSES, palette=[colours[c] for c in PUBLISHED_CLASSES])
    if count == VOC_CLASSES:
        return DATASETS.get("PascalVOCDataset").METAINFO
    palette = voc_palette()
    return dict(
        classes=[f"class {i}" for i in range(count)],
        palette=[palette[i % len(palette)] for i in range(count)],
    )
