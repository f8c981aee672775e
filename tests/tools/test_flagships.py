"""The configs for VOC, ADE20K and CamVid train and score on small data in their layouts."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.running import REPOSITORY, tool

from fcn_plugin.data.drawing import voc_palette

TRAIN, VAL = ("t1", "t2"), ("v1",)


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def label(path: Path, values: tuple[int, ...], palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(1).choice(np.array(values, np.uint8), (60, 80))
    made = Image.fromarray(pixels)
    if palette:
        made.putpalette(np.array(voc_palette(), np.uint8).tobytes())
    made.save(path)


def voc(data: Path) -> None:
    root = data / "VOCdevkit/VOC2012"
    for folder, names in dict(SegmentationClass=("t1", "v1"), SegmentationClassAug=("t2",)).items():
        for name in names:
            label(root / folder / f"{name}.png", (0, 1, 20, 255), palette=True)
            image(root / "JPEGImages" / f"{name}.jpg")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    for split, names in dict(train=("t1",), aug=("t2",), val=VAL).items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")


def ade20k(data: Path) -> None:
    root = data / "ade/ADEChallengeData2016"
    for split, names in dict(training=TRAIN, validation=VAL).items():
        for name in names:
            image(root / "images" / split / f"{name}.jpg")
            label(root / "annotations" / split / f"{name}.png", (0, 1, 77, 150))


def camvid(data: Path) -> None:
    for split, names in dict(train=TRAIN, val=VAL).items():
        for name in names:
            image(data / "camvid" / split / f"{name}.png")
            label(data / "camvid" / f"{split}annot" / f"{name}.png", (0, 5, 10, 11))


FLAGSHIPS = {
    "fcn8s_vgg16_voc": (voc, {"aAcc", "mAcc", "mIoU", "fwIoU"}),
    "fcn8s_vgg16_ade20k": (ade20k, {"aAcc", "mAcc", "mIoU", "fwIoU", "score"}),
    "fcn8s_vgg16_camvid": (camvid, {"aAcc", "mAcc", "mIoU", "fwIoU"}),
    "fcn8s_vgg16-bn_camvid-scratch-half": (camvid, {"aAcc", "mAcc", "mIoU", "fwIoU"}),
}
TINY = [
    "model.backbone.base_channels=2",
    "model.backbone.fc_channels=8",
    "model.backbone.init_cfg=None",
    "model.decode_head.in_channels=(8,16,8)",
    "train_dataloader.batch_size=2",
    *(f"{loader}_dataloader.num_workers=0" for loader in ("train", "val")),
    *(f"{loader}_dataloader.persistent_workers=False" for loader in ("train", "val")),
    "train_cfg.max_iters=1",
    "train_cfg.val_interval=1",
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict:
    """All of them, two at a time."""

    def train(name: str):
        folder = tmp_path_factory.mktemp(name)
        FLAGSHIPS[name][0](folder / "data")
        config = REPOSITORY / "configs" / f"{name}.py"
        return tool("train.py", config, "--cfg-options", *TINY, folder=folder)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FLAGSHIPS, pool.map(train, FLAGSHIPS), strict=True))


@pytest.mark.parametrize("name", FLAGSHIPS)
def test_trains_and_scores(name, runs):
    assert runs[name].returncode == 0, runs[name].stderr[-2000:]
    line = [line for line in runs[name].stdout.splitlines() if "Iter(val)" in line][-1]
    found = {word.rstrip(":") for word in line.split() if word.endswith(":")}
    assert FLAGSHIPS[name][1] <= found
