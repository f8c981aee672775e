"""Figures of the configs' input pipelines, against the same steps of mmseg, on one core.

The files are synthetic: pictures of textured shapes as JPEGs of a photograph's size, labels as PNGs
with a palette. Those like VOC have one class on most of the picture, so that crops are redrawn as
often as on VOC; those like ADE20K are covered by objects completely.
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
SCALE = (2048, 512)  # of ADE20K's pictures to be scored
MOST = 10  # of 255, by which a picture that is decoded at a fraction may differ on average
AREAS = 8  # areas in a picture like ADE20K, each of one class
# Our class -> mmseg's; all other steps use the same class.
MMSEG = {
    "LoadCheckedLabel": "LoadAnnotations",
    "FastRandomCrop": "RandomCrop",
    "FastRandomFlip": "RandomFlip",
    "FastPhotoMetricDistortion": "PhotoMetricDistortion",
    "FastPackSegInputs": "PackSegInputs",
}
# Settings that only our classes have.
OURS_ALONE = ("num_classes", "_scope_")

Picture = tuple[np.ndarray, np.ndarray]


def voc_picture(index: int) -> Picture:
    """A picture [375, 500, 3] and its label: up to three shapes in front of a background."""
    image, label = draw(0, "train", index, 500)
    return image[:375], label[:375]


def ade_picture(index: int) -> Picture:
    """A picture [512, 683, 3] and its label: Voronoi areas of random points, and shapes."""
    rng = np.random.default_rng(index)
    image, shapes = (array[:512] for array in draw(0, "train", index, 683))
    points = rng.uniform((0, 0), (512, 683), (AREAS, 2))
    y, x = np.ogrid[:512, :683]
    area = np.argmin([np.hypot(y - top, x - left) for top, left in points], axis=0)
    shade = rng.integers(-40, 41, (AREAS, 3))[area]
    classes = rng.choice(np.arange(1, 151), AREAS + 4, replace=False)
    label = np.where((shapes >= 1) & (shapes <= 4), classes[AREAS - 1 + shapes % 5], classes[area])
    return np.clip(image + shade, 0, 255).astype(np.uint8), label.astype(np.uint8)


def write(folder: Path, index: int, picture: Picture) -> dict[str, str]:
    """The paths that a data set gives the pipeline, for a picture written to ``folder``."""
    image, label = map(Image.fromarray, picture)
    files = dict(img_path=f"{folder}/{index}.jpg", seg_map_path=f"{folder}/{index}.png")
    image.save(files["img_path"], quality=QUALITY)
    label.putpalette([value for colour in voc_palette() for value in colour])
    label.save(files["seg_map_path"])
    return files


def mmseg_step(step: dict[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in step.items() if key not in OURS_ALONE}
    return dict(rest, type=MMSEG.get(step["type"], step["type"]))


@contextmanager
def one_core() -> Iterator[None]:
    """A context in which OpenCV and PyTorch use one thread, as in a data loader's worker."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    yield
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])


def pipeline(
    config: str, picture: Callable[[int], Picture], reduce_zero_label: bool, setting: Setting
) -> Sides:
    folder = tempfile.TemporaryDirectory(prefix="pipeline")
    count = 2 if setting.quick else IMAGES
    files = [write(Path(folder.name), index, picture(index)) for index in range(count)]
    common = dict(reduce_zero_label=reduce_zero_label)
    steps = Config.fromfile(DATASETS / config).train_pipeline
    with DefaultScope.overwrite_default_scope("mmseg"):
        ours, theirs = Compose(steps), Compose([mmseg_step(step) for step in steps])

    # The default argument keeps the temporary folder as long as the function.
    def run(steps: Compose, folder: tempfile.TemporaryDirectory = folder) -> list[dict[str, Any]]:
        np.random.seed(0)
        with one_core():
            return [steps(dict(file, seg_fields=[], **common)) for file in files]

    return Sides(partial(run, ours), partial(run, theirs), agree, per=count)


def agree(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    for mine, other in zip(ours, theirs, strict=True):
        labels = (sample["data_samples"].gt_sem_seg.data for sample in (mine, other))
        assert torch.equal(mine["inputs"], other["inputs"]), "an image is not mmseg's"
        assert torch.equal(*labels), "a label is not mmseg's"
    return "the same bytes"


def shrunk(setting: Setting) -> Sides:
    """Photographs of 12 megapixels, resized as ADE20K's pictures are to be scored."""
    folder = tempfile.TemporaryDirectory(prefix="shrunk")
    width, height = (800, 600) if setting.quick else (4000, 3000)
    files = []
    for index in range(2):
        image, label = draw(0, "train", index, width)
        files.append(write(Path(folder.name), index, (image[:height], label[:height])))
    with DefaultScope.overwrite_default_scope("mmseg"):
        resize = dict(type="Resize", scale=SCALE, keep_ratio=True)
        ours, theirs = (
            Compose([dict(type="LoadCheckedImage", shrink_on_load=scale), resize])
            for scale in (SCALE, None)
        )

    def run(steps: Compose, folder: tempfile.TemporaryDirectory = folder) -> list[np.ndarray]:
        with one_core():
            return [steps(dict(file))["img"].astype(int) for file in files]

    return Sides(partial(run, ours), partial(run, theirs), differ, per=len(files))


def differ(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    assert [image.shape for image in ours] == [image.shape for image in theirs], "other sizes"
    gaps = np.abs(np.subtract(ours, theirs))
    assert gaps.mean() < MOST, "not the same picture"
    return f"they differ by {gaps.mean():.1f} of 255 on average, {gaps.max()} at most"


VOC = partial(pipeline, "voc2012.py", voc_picture, False)
ADE20K = partial(pipeline, "ade20k.py", ade_picture, True)
FIGURES = [
    Figure("input pipeline VOC", "pipeline", "mmseg's transforms, one core", VOC),
    Figure("input pipeline ADE20K", "pipeline", "mmseg's transforms, one core", ADE20K),
    Figure("shrink on load", "pipeline", "decoded in full, one core", shrunk),
]
