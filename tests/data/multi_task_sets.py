"""A data set with two labelings on disk: the further one is a function of the main one."""

from pathlib import Path

import numpy as np
from PIL import Image

# The main label's class, void last -> the further one's.
GEO_OF = np.array([0, 1, 2, 0, 1, *[255] * 251], np.uint8)
CLASSES, GEO = 5, 3
AUGMENTATION = [
    dict(type="RandomResize", scale=(40, 40), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="FastRandomCrop", crop_size=(24, 32), cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
]


def write_set(folder: Path, count: int = 3, size: tuple[int, int] = (30, 40)) -> None:
    """``images``, ``labels`` and ``geo``, whose files count classes from 1, with 0 for void."""
    random = np.random.default_rng(3)
    for name in ("images", "labels", "geo"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        blocks = random.choice([*range(CLASSES), 255], (-(-size[0] // 4), -(-size[1] // 4)))
        label = blocks.astype(np.uint8).repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]
        noise = random.integers(0, 60, (*size, 3))
        pixels = np.minimum(label[..., None] % 6 * [40, 20, 10] + noise, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{index}.jpg")
        Image.fromarray(label).save(folder / f"labels/{index}.png")
        # uint8: 255 + 1 is 0.
        Image.fromarray(GEO_OF[label] + np.uint8(1)).save(folder / f"geo/{index}.png")


def load(task: str | None = None) -> dict:
    classes = CLASSES if task is None else GEO
    return dict(type="LoadCheckedLabel", num_classes=classes, task=task)


def data_set(folder: Path, steps: list[dict] = (), **settings: object) -> dict:
    """Its config; ``steps`` are those between loading and packing."""
    geo = dict(classes=tuple("xyz"), palette=[[9, 9, 9], [8, 8, 8], [7, 7, 7]])
    return (
        dict(
            type="MultiTaskDataset",
            data_root=str(folder),
            data_prefix=dict(img_path="images", seg_map_path="labels", geo_seg_map_path="geo"),
            metainfo=dict(
                classes=tuple("abcde"),
                palette=[[40 * i] * 3 for i in range(CLASSES)],
                tasks=dict(geo=dict(geo, reduce_zero_label=True)),
            ),
            pipeline=[
                dict(type="LoadImageFromFile", _scope_="fcn_plugin"),
                load(),
                load("geo"),
                *steps,
                dict(type="FastPackSegInputs"),
            ],
        )
        | settings
    )
