"""The input pipelines of the configs, against the same steps by the host's classes, on one core.

The files are drawn: pictures of textured shapes as JPEGs of a photograph's size, labels as PNGs
with the palette. VOC's have one class on most of the picture, so that crops are drawn again as they
are on VOC; ADE20K's are covered by classes altogether.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.prepare.drawing import draw
from figures.framework import Figure, Setting, Sides

DATASETS = Path(__file__).parents[2] / "configs" / "_base_" / "datasets"
IMAGES = 24
QUALITY = 92
AREAS = 8  # of one class each, in a picture of ADE20K

# The host's class for each of ours.
HOSTS = {
    "LoadImageFromFile": "LoadImageFromFile",
    "LoadCheckedLabel": "LoadAnnotations",
    "RandomResize": "RandomResize",
    "FastRandomCrop": "RandomCrop",
    "FastRandomFlip": "RandomFlip",
    "FastPhotoMetricDistortion": "PhotoMetricDistortion",
    "FastPackSegInputs": "PackSegInputs",
}
# What only our classes are given.
OURS_ALONE = ("num_classes", "_scope_")

Picture = tuple[np.ndarray, np.ndarray]


def voc_picture(index: int) -> Picture:
    """A picture [375, 500, 3] and its label: up to three shapes before a background."""
    image, label = draw(0, "train", index, 500)
    return image[:375], label[:375]


def ade_picture(index: int) -> Picture:
    """A picture [512, 683, 3] and its label: the areas nearest to random points, and shapes."""
    rng = np.random.default_rng(index)
    image, shapes = draw(0, "train", index, 683)
    image, shapes = image[:512], shapes[:512]
    points = rng.uniform((0, 0), (512, 683), (AREAS, 2))
    y, x = np.ogrid[:512, :683]
    area = np.argmin([np.hypot(y - top, x - left) for top, left in points], axis=0)
    shade = rng.integers(-40, 41, (AREAS, 3))[area]
    classes = rng.choice(np.arange(1, 151), AREAS + 4, replace=False)
    label = np.where((shapes >= 1) & (shapes <= 4), classes[AREAS - 1 + shapes % 5], classes[area])
    return np.clip(image + shade, 0, 255).astype(np.uint8), label.astype(np.uint8)


def samples(folder: Path, picture: Callable[[int], Picture], count: int, **known: Any) -> list:
    """What a data set gives the pipeline for each of ``count`` pictures written to ``folder``."""
    found = []
    for index in range(count):
        image, label = picture(index)
        img_path, seg_map_path = str(folder / f"{index}.jpg"), str(folder / f"{index}.png")
        Image.fromarray(image).save(img_path, quality=QUALITY)
        indexed = Image.fromarray(label, mode="P")
        indexed.putpalette([value for colour in voc_palette() for value in colour])
        indexed.save(seg_map_path)
        found.append(dict(img_path=img_path, seg_map_path=seg_map_path, **known))
    return found


def host_step(step: dict[str, Any]) -> dict[str, Any]:
    """A step of a config by the host's class."""
    rest = {key: value for key, value in step.items() if key not in OURS_ALONE}
    return dict(rest, type=HOSTS[step["type"]])


@contextmanager
def one_core() -> Iterator[None]:
    """Within it OpenCV and PyTorch take one thread, as they do in a data loader's worker."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    yield
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])


def pipeline(
    setting: Setting, *, config: str, picture: Callable[[int], Picture], reduce_zero_label: bool
) -> Sides:
    folder = tempfile.TemporaryDirectory(prefix="pipeline")
    known = dict(reduce_zero_label=reduce_zero_label)
    files = samples(Path(folder.name), picture, 2 if setting.quick else IMAGES, **known)
    steps = Config.fromfile(DATASETS / config).train_pipeline
    with DefaultScope.overwrite_default_scope("mmseg"):
        ours, theirs = Compose(steps), Compose([host_step(step) for step in steps])

    # The folder is kept for as long as the function is.
    def run(steps: Compose, folder: tempfile.TemporaryDirectory = folder) -> list[dict[str, Any]]:
        np.random.seed(0)
        with one_core():
            return [steps(dict(file, seg_fields=[])) for file in files]

    return Sides(partial(run, ours), partial(run, theirs), agree, unit="ms", per=len(files))


def agree(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """Every byte of every image and label is to be the same."""
    for mine, other in zip(ours, theirs, strict=True):
        labels = (sample["data_samples"].gt_sem_seg.data for sample in (mine, other))
        assert torch.equal(mine["inputs"], other["inputs"]), "an image is not the host's"
        assert torch.equal(*labels), "a label is not the host's"
    return "the same bytes"


FIGURES = [
    Figure(
        name="input pipeline VOC",
        group="pipeline",
        against="mmseg's transforms, one core",
        setup=partial(pipeline, config="voc2012.py", picture=voc_picture, reduce_zero_label=False),
    ),
    Figure(
        name="input pipeline ADE20K",
        group="pipeline",
        against="mmseg's transforms, one core",
        setup=partial(pipeline, config="ade20k.py", picture=ade_picture, reduce_zero_label=True),
    ),
]
