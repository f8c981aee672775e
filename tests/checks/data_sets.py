"""The config of a data set of shapes, plain and wrapped."""

from pathlib import Path

from fcn_plugin.prepare.drawing import CLASSES, PALETTE


def plain(root: Path, split: str, **settings: object) -> dict:
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file=f"ImageSets/Segmentation/{split}.txt",
        metainfo=dict(classes=CLASSES, palette=PALETTE),
        pipeline=[],
    )
    return dataset | settings


def wrapped(*datasets: dict) -> dict:
    both = dict(type="ConcatDataset", datasets=list(datasets))
    return dict(type="RepeatDataset", times=2, dataset=both)
