"""What odd files do to training and prediction, by the pipelines of a shipped config.

What of a file is read is in test_images.py and test_labels.py; the loss against mmseg's in
models/test_loss.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from data.pictures import CLASSES, HIGH, LABEL, RAMP, WIDE, exif, saved, written
from mmcv.transforms import Compose
from mmengine.config import Config
from models.small import segmentor

CONFIG = Config.fromfile(Path(__file__).parents[2] / "configs/fcn8s_vgg16_shapes.py")
PREPROCESSOR = CONFIG.model.data_preprocessor | dict(size=(64, 64))


def batch(key: str, folder: Path, image: bytes, label: bytes) -> dict:
    """What a pipeline of the config makes of the files of one image, twice."""
    assert CONFIG.model.decode_head.num_classes == CLASSES
    sample = dict(seg_fields=[], reduce_zero_label=False, label_map=None)
    sample["img_path"] = str(written(folder / "a.jpg", image))
    sample["seg_map_path"] = str(written(folder / "a.png.label", label))
    packed = Compose(CONFIG[key])(sample)
    return {key: [packed[key]] * 2 for key in ("inputs", "data_samples")}


SIZES = [
    (saved(RAMP, "JPEG", exif=exif(6)), (WIDE, HIGH)),
    (saved(RAMP[:1, :1]), (1, 1)),
    (saved(np.tile(RAMP[:1], (1, 25, 1))), (1, 400)),
]


@pytest.mark.parametrize(("image", "size"), SIZES)
def test_an_image_is_trained_on_and_predicted_at_its_own_size(tmp_path, image, size):
    files = image, saved(np.resize(LABEL, size))
    model = segmentor(data_preprocessor=PREPROCESSOR).train()
    given = model.data_preprocessor(batch("train_pipeline", tmp_path, *files), True)
    loss = model(**given, mode="loss")["decode.loss_ce"]
    loss.backward()
    assert 0 < loss.item() < 1e3
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    with torch.no_grad():
        found, _ = model.eval().test_step(batch("test_pipeline", tmp_path, *files))
    assert found.pred_sem_seg.data.shape == found.gt_sem_seg.data.shape == (1, *size)
    assert torch.isfinite(found.seg_logits.data).all()
