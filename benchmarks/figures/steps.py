"""Training steps of our network, of mmseg's and of pytorch-fcn's, on the same random batch."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import mmseg
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from figures.framework import Setting, Skipped

CONFIG = Path(__file__).parents[2] / "configs" / "fcn8s_vgg16_ade20k.py"
BASES = Path(mmseg.__file__).parent / ".mim" / "configs" / "_base_"
CLASSES = 150
QUICK_WIDTH = dict(base_channels=8, fc_channels=32)
QUICK_LEVELS = (32, 64, 32)  # channels of the levels at QUICK_WIDTH


class Autocast(OptimWrapper):
    """An optimizer wrapper with the setting's precision and without loss scaling."""

    def __init__(self, setting: Setting, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.setting = setting

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), self.setting.autocast():
            yield


def unchanged(network: nn.Module) -> None:
    """Leave a network as its config has it."""


def our_step(
    setting: Setting, batch: int, change: Callable[[nn.Module], object] = unchanged
) -> Callable[[], object]:
    """FCN-8s on VGG16 by the shipped config for ADE20K, without the pretrained weights.

    Args:
        change: of the network, before the first step.
    """
    config = Config.fromfile(CONFIG)
    config.model.backbone.init_cfg = None
    if setting.quick:
        config.model.backbone.update(QUICK_WIDTH)
        config.model.decode_head.in_channels = QUICK_LEVELS
    return _step(config.model, config.optim_wrapper, setting, batch, change)


def mmseg_step(setting: Setting, batch: int) -> Callable[[], object]:
    """mmseg's FCN on ResNetV1c-50-d8 with its auxiliary head, by its own config, on one device."""
    model = Config.fromfile(BASES / "models" / "fcn_r50-d8.py").model
    model.pretrained = None
    for part in (model.backbone, model.decode_head, model.auxiliary_head):
        part.norm_cfg.type = "BN"
    model.decode_head.num_classes = model.auxiliary_head.num_classes = CLASSES
    optimizer = Config.fromfile(BASES / "schedules" / "schedule_160k.py").optim_wrapper
    return _step(model, optimizer, setting, batch)


def _step(
    model: Any,
    optimizer: Any,
    setting: Setting,
    batch: int,
    change: Callable[[nn.Module], object] = unchanged,
) -> Callable[[], object]:
    size = (side(setting), side(setting))
    init_default_scope("mmseg")
    model.data_preprocessor.size = size
    network = MODELS.build(model)
    change(network)
    return training_step(network, optimizer, setting, batch, size, CLASSES)


def training_step(
    model: Any,  # a segmentor of mmseg
    optimizer: Any,
    setting: Setting,
    batch: int,
    size: tuple[int, int],
    classes: int,
) -> Callable[[], object]:
    """A step as in mmengine's runner, on the same batch of random images of ``size`` each time."""
    model.to(setting.device).train()
    wrapper = build_optim_wrapper(model, dict(optimizer, type=Autocast, setting=setting))
    torch.manual_seed(0)
    images = list(torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8))
    labels = _labels(batch, size, classes)
    data = dict(inputs=images, data_samples=[sample(label) for label in labels])
    return lambda: model.train_step(dict(data), wrapper)


def side(setting: Setting) -> int:
    """Pixels of the square images."""
    return 64 if setting.quick else 512


def _labels(batch: int, size: tuple[int, int], classes: int) -> Tensor:
    """Labels batch x height x width: squares of 32 x 32 pixels, some void."""
    height, width = size
    cells = torch.randint(0, classes + 10, (batch, -(-height // 32), -(-width // 32)))
    cells[cells >= classes] = 255
    return cells.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, :height, :width].contiguous()


def sample(label: Tensor, **data: PixelData) -> SegDataSample:
    """The data sample of an image with a label [H, W], as from mmseg's data sets."""
    shape = tuple(label.shape)
    meta = dict(img_path="image.jpg", img_shape=shape, ori_shape=shape, pad_shape=shape)
    return SegDataSample(gt_sem_seg=PixelData(data=label[None]), metainfo=meta, **data)


def peer(setting: Setting, classes: int) -> nn.Module:
    """pytorch-fcn's FCN-8s; only its module is imported, since the package needs more packages."""
    if setting.peers is None:
        raise Skipped("give --peer DIR, a clone of github.com/wkentaro/pytorch-fcn")
    sys.modules.setdefault("fcn", ModuleType("fcn"))  # only for downloads
    package = ModuleType("torchfcn_models")
    package.__path__ = [str(setting.peers.resolve() / "torchfcn" / "models")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.fcn8s").FCN8s(n_class=classes)


def peer_step(setting: Setting, batch: int) -> Callable[[], object]:
    """pytorch-fcn's FCN-8s with its loss, summed over labelled pixels, and plain SGD."""
    device, pixels = setting.device, side(setting)
    model = peer(setting, CLASSES).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-10, momentum=0.99, weight_decay=0.0005)
    torch.manual_seed(0)
    images = torch.rand(batch, 3, pixels, pixels) * 255 - 115
    labels = _labels(batch, (pixels, pixels), CLASSES)
    loss_of = nn.CrossEntropyLoss(ignore_index=255, reduction="sum")

    def step() -> Tensor:
        with setting.autocast():
            loss = loss_of(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
