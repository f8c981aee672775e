"""What odd files do to training and prediction, by the pipelines of two shipped configs.

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
from mmengine.optim import OptimWrapper
from models.small import segmentor

from fcn_plugin.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"  # used with the classes of the shapes
TRAINING = dict(voc="fcn8s_vgg16_voc.py", shapes="fcn8s_vgg16_shapes.py")
configs = pytest.mark.parametrize("config", TRAINING.values(), ids=TRAINING)


def piped(config: str, key: str, folder: Path, image: bytes, label: bytes) -> dict:
    """What a config's pipeline makes of the files of one image."""
    steps = Config.fromfile(CONFIGS / config)[key]
    for step in steps:
        if step["type"] == "LoadCheckedLabel":
            step["num_classes"] = CLASSES
    sample = dict(seg_fields=[], reduce_zero_label=False, label_map=None)
    sample["img_path"] = str(written(folder / "a.jpg", image))
    sample["seg_map_path"] = str(written(folder / "a.png.label", label))
    return Compose(steps)(sample)


PREPROCESSOR = dict(
    type="SegDataPreProcessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    size=(64, 64),
    seg_pad_val=255,
)


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    return segmentor(data_preprocessor=PREPROCESSOR)


def batch_of(packed: list[dict]) -> dict:
    return {key: [each[key] for each in packed] for key in ("inputs", "data_samples")}


SIZES = [
    (saved(RAMP, "JPEG", exif=exif(6)), (WIDE, HIGH)),
    (saved(RAMP[:1, :1]), (1, 1)),
    (saved(np.tile(RAMP[:1], (1, 25, 1))), (1, 400)),
    (saved(np.repeat(RAMP[:1, :1], 400, axis=0)), (400, 1)),
]


@configs
@pytest.mark.parametrize(("image", "size"), SIZES)
def test_an_image_is_trained_on_and_predicted_at_its_own_size(tmp_path, tiny, image, size, config):
    files = image, saved(np.resize(LABEL, size))
    np.random.seed(0)
    batch = batch_of([piped(config, "train_pipeline", tmp_path, *files)])
    tiny.train().zero_grad()
    loss = tiny(**tiny.data_preprocessor(batch, True), mode="loss")["decode.loss_ce"]
    loss.backward()
    assert 0 < loss.item() < 1e3
    assert all(torch.isfinite(p.grad).all() for p in tiny.parameters() if p.grad is not None)
    with torch.no_grad():
        packed = piped(config, "test_pipeline", tmp_path, *files)
        (found,) = tiny.eval().test_step(batch_of([packed]))
    assert found.pred_sem_seg.data.shape == found.gt_sem_seg.data.shape == (1, *size)
    assert torch.isfinite(found.seg_logits.data).all()


@configs
@pytest.mark.parametrize("key", ["train_pipeline", "test_pipeline"])
def test_a_file_that_is_wrong_is_named(tmp_path, config, key):
    cut = saved(RAMP, "JPEG")[:-40]
    turned = saved(RAMP, "JPEG", exif=exif(6))
    for files, message in (
        ((cut, saved(LABEL)), "a.jpg: damaged image, .*; copy"),
        ((saved(RAMP), saved(LABEL + 1)), r"a.png.label: label values 5 .*only 0-4, 255 are legal"),
        # A label of the image as it is stored, not as it is seen.
        ((turned, saved(LABEL)), "a.png.label: label of 16x24 for an image of 24x16; use the"),
    ):
        with pytest.raises(UserError, match=message):
            piped(config, key, tmp_path, *files)


HARD = dict(type="OHEMPixelSampler", min_kept=50)
CASES = [
    (dict(avg_non_ignore=True), None),
    (dict(avg_non_ignore=False), None),
    (dict(reduction="sum"), None),
    (dict(avg_non_ignore=False), HARD),
    (dict(avg_non_ignore=False), HARD | dict(thresh=0.7)),
]


@pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")
@pytest.mark.parametrize("blockwise", [True, False], ids=["blockwise", "plain"])
@pytest.mark.parametrize(("loss", "sampler"), CASES)
def test_nothing_but_void_teaches_nothing(tmp_path, blockwise, loss, sampler):
    """Loss and gradients are exactly 0, the accuracy is mmseg's 100, a step moves no weight."""
    loss = dict(type="CrossEntropyLoss", **loss)
    head = dict(blockwise=blockwise, sampler=sampler, loss_decode=loss)
    model = segmentor(head=head, data_preprocessor=PREPROCESSOR).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9))
    files = saved(RAMP), saved(np.full_like(LABEL, 255))
    packed = piped(TRAINING["shapes"], "test_pipeline", tmp_path, *files)
    logged = model.train_step(batch_of([packed] * 2), optimizer)
    assert logged["loss"].item() == logged["decode.loss_ce"].item() == 0
    assert logged["decode.acc_seg"].item() == 100
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
