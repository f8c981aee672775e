"""mmseg's own tools with our configs."""

import runpy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from tools.running import REPOSITORY, as_module, config, started, tool

from fcn_plugin.prepare.shapes import write_shapes


@pytest.mark.slow
def test_browse_dataset_draws_each_training_image(tmp_path):
    write_shapes(tmp_path / "data" / "shapes", train=3, val=1, size=32)
    options = ("browse_dataset", config(tmp_path), "--not-show", "--output-dir", "pictures")
    # From nothing: whether mmseg can be imported depends on the order.
    done = started("mmseg_tool.py", *options, folder=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    pictures = [np.asarray(Image.open(file)) for file in (tmp_path / "pictures").iterdir()]
    assert len(pictures) == 3 and all(len(np.unique(picture)) > 2 for picture in pictures)


def test_a_name_that_mmseg_does_not_have_and_a_tool_in_doubt(tmp_path):
    unknown = tool("mmseg_tool.py browse_datasets x.py", folder=tmp_path)
    assert unknown.returncode == 1
    assert unknown.stderr.splitlines()[-1].endswith("did you mean 'browse_dataset'?")
    doubtful = tool("mmseg_tool.py confusion_matrix --help", folder=tmp_path)
    assert doubtful.returncode == 0 and "usage: confusion_matrix.py" in doubtful.stdout
    assert "at most 16 classes" in doubtful.stderr


class Truth(list):
    """Labels as the data set that mmseg's confusion_matrix.py reads."""

    ignore_index, reduce_zero_label = 255, False

    def __init__(self, classes: int, label: np.ndarray) -> None:
        self.METAINFO = dict(classes=range(classes))
        pixels = PixelData(data=torch.from_numpy(label[None]))
        super().__init__([dict(data_samples=SegDataSample(gt_sem_seg=pixels))])


@pytest.mark.parametrize("classes", (16, 17))
def test_confusion_matrix_is_right_up_to_16_classes_only(classes):
    """Once the second fails, the warning of the tool can go."""
    with as_module("mmseg_tool") as module:
        counted = runpy.run_path(str(module.scripts()["confusion_matrix"]))
    label = np.arange(classes, dtype=np.uint8).reshape(1, -1)
    matrix = counted["calculate_confusion_matrix"](Truth(classes, label), [label])
    assert np.array_equal(matrix, np.eye(classes)) == (classes == 16)


def test_visualization_cam_finds_the_normalisation_of_the_network():
    """It takes the channels as RGB, so that a network for BGR must not be named to it."""
    named = 0
    for file in (REPOSITORY / "configs").glob("*.py"):
        cfg = Config.fromfile(file)
        used = cfg.model.data_preprocessor
        if "data_preprocessor" in cfg:
            named += 1
            assert used.bgr_to_rgb, file.name
            for key in ("mean", "std"):
                assert used[key] == cfg.data_preprocessor[key], file.name
    assert named > 10
