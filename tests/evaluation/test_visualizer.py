"""Class names on images that are views, which OpenCV refuses to write on in mmseg 1.2.2."""

import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from fcn_plugin.evaluation.visualizer import AnyLayoutVisualizer


def test_a_view_is_drawn_as_its_copy(tmp_path):
    visualizer = AnyLayoutVisualizer()
    visualizer.dataset_meta = dict(classes=("sky", "sea"), palette=[[0, 0, 90], [0, 90, 0]])
    planes = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
    label = (torch.arange(80) > 40).long().repeat(60, 1)
    sample = SegDataSample(gt_sem_seg=PixelData(data=label[None])).numpy()
    view = planes.permute(1, 2, 0).numpy()[..., [2, 1, 0]]  # as browse_dataset.py has it
    drawn = []
    for number, image in enumerate((view, view.copy(order="C"))):
        file = tmp_path / f"{number}.png"
        visualizer.add_datasample("a", image, sample, out_file=str(file), draw_pred=False)
        drawn.append(np.asarray(Image.open(file)))
    assert not view.flags.c_contiguous and np.array_equal(*drawn)
    colours = np.array(visualizer.dataset_meta["palette"])[label.numpy()]
    plain = (view * 0.2 + colours * 0.8).astype(np.uint8)
    assert 0.5 < np.mean(np.abs(drawn[0].astype(int) - plain) <= 1) < 1  # all but the names
