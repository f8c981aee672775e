"""From the archives to a training and its scores, as a user goes it: tool by tool."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prepare.archives_of_sets import write_archives
from tools.running import REPOSITORY, ran, tool

FLAGSHIPS = [f"fcn8s_vgg16_{name}" for name in ("voc", "voc2011", "ade20k")]
FLAGSHIPS.append("fcn8s_vgg16-bn_camvid-scratch-half")
TINY = (
    "--cfg-options model.backbone.base_channels=2 model.backbone.fc_channels=8 "
    "model.backbone.init_cfg=None model.decode_head.in_channels=(8,16,8) "
    "train_dataloader.batch_size=2 train_dataloader.num_workers=0 val_dataloader.num_workers=0 "
    "train_cfg.max_iters=1 train_cfg.val_interval=1"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """All data sets, unpacked from small archives with the layouts of the published ones."""
    folder = tmp_path_factory.mktemp("prepared")
    archives = write_archives(folder / "archives")
    for name in ("sbd", "voc2012", "voc2011", "ade20k", "camvid"):
        options = ["--subset", "--archive", *archives[name]]
        done = ran("prepare_data.py", name, *options, folder=folder)
        assert done.stdout.splitlines()[-2].endswith(" images")
    return folder / "data"


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> dict:
    """All of them, two at a time."""

    def train(name: str):
        folder = tmp_path_factory.mktemp(name)
        (folder / "data").symlink_to(data)
        return tool(f"train.py {REPOSITORY}/configs/{name}.py {TINY}", folder=folder)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FLAGSHIPS, pool.map(train, FLAGSHIPS), strict=True))


@pytest.mark.parametrize("name", FLAGSHIPS)
def test_trains_and_scores(name, runs):
    assert runs[name].returncode == 0, runs[name].stderr[-2000:]
    line = [line for line in runs[name].stdout.splitlines() if "Iter(val)" in line][-1]
    found = {word.rstrip(":") for word in line.split() if word.endswith(":")}
    assert {"aAcc", "mAcc", "mIoU", "fwIoU"} <= found and ("score" in found) == ("ade" in name)
