"""Networks and training steps: ours, the host's and a peer's, on the same random batch."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

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
CLASSES = 150
QUICK_WIDTH = dict(base_channels=8, fc_channels=32)


class Step:
    """One training step of a segmentor as the host's runner does it, on the same batch each time.

    Args:
        model: a config of the segmentor.
        optimizer: a config of the optimizer wrapper.
        batch: images in a batch, noise of ``side`` x ``side`` with labels in ``CLASSES``.
    """

    def __init__(
        self, model: dict, optimizer: dict, setting: Setting, batch: int, side: int
    ) -> None:
        init_default_scope("mmseg")
        self.model = MODELS.build(model).to(setting.device).train()
        wrapper = optimizer | dict(type=Autocast, device=setting.device, precision=setting.dtype)
        self.optimizer = build_optim_wrapper(self.model, wrapper)
        torch.manual_seed(0)
        self.data = dict(
            inputs=list(torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8)),
            data_samples=[_sample(label) for label in _labels(batch, side)],
        )

    def __call__(self) -> dict[str, Tensor]:
        return self.model.train_step(dict(self.data), self.optimizer)


class Autocast(OptimWrapper):
    """Forward in ``precision`` on ``device``; float32 is left alone. Losses are not scaled."""

    def __init__(self, device: torch.device, precision: torch.dtype, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.device, self.precision = device, precision

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        lower = self.precision != torch.float32
        with (
            super().optim_context(model),
            torch.autocast(self.device.type, self.precision, enabled=lower),
        ):
            yield


def _labels(batch: int, side: int) -> Tensor:
    """batch x side x side: regions of 32 pixels, some void."""
    cells = torch.randint(0, CLASSES + 10, (batch, -(-side // 32), -(-side // 32)))
    cells[cells >= CLASSES] = 255
    return cells.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, :side, :side].contiguous()


def _sample(label: Tensor) -> SegDataSample:
    sample = SegDataSample(gt_sem_seg=PixelData(data=label[None]))
    shape = tuple(label.shape)
    sample.set_metainfo(dict(img_shape=shape, ori_shape=shape, pad_shape=shape))
    return sample


def our_step(setting: Setting, batch: int) -> Step:
    """FCN-8s on VGG16 by the shipped config for ADE20K, without the pretrained weights."""
    config = Config.fromfile(CONFIG)
    model = config.model.to_dict()
    model["backbone"]["init_cfg"] = None
    model["data_preprocessor"]["size"] = (_side(setting),) * 2
    if setting.quick:
        model["backbone"] |= QUICK_WIDTH
        model["decode_head"]["in_channels"] = (32, 64, 32)
    return Step(model, config.optim_wrapper.to_dict(), setting, batch, _side(setting))


def host_step(setting: Setting, batch: int) -> Step:
    """The host's FCN on ResNetV1c-50-d8 with its auxiliary head, as its configs have them."""
    norm = dict(type="BN", requires_grad=True)
    head = dict(type="FCNHead", num_classes=CLASSES, norm_cfg=norm, concat_input=False)
    loss = dict(type="CrossEntropyLoss", use_sigmoid=False)
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(
            type="SegDataPreProcessor",
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            bgr_to_rgb=True,
            size=(_side(setting),) * 2,
            pad_val=0,
            seg_pad_val=255,
        ),
        backbone=dict(
            type="ResNetV1c",
            depth=50,
            dilations=(1, 1, 2, 4),
            strides=(1, 2, 1, 1),
            norm_cfg=norm,
            contract_dilation=True,
        ),
        decode_head=head
        | dict(in_channels=2048, in_index=3, channels=512, num_convs=2, concat_input=True)
        | dict(dropout_ratio=0.1, loss_decode=loss),
        auxiliary_head=head
        | dict(in_channels=1024, in_index=2, channels=256, num_convs=1)
        | dict(dropout_ratio=0.1, loss_decode=loss | dict(loss_weight=0.4)),
    )
    optimizer = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005))
    return Step(model, optimizer, setting, batch, _side(setting))


def peer(setting: Setting, classes: int) -> nn.Module:
    """pytorch-fcn's FCN-8s, without the packages around it: they download, plot and read sets."""
    if setting.peers is None:
        raise Skipped("give --peer DIR, a clone of github.com/wkentaro/pytorch-fcn")
    sys.modules.setdefault("fcn", ModuleType("fcn"))  # only for downloads
    package = ModuleType("torchfcn_models")
    package.__path__ = [str(setting.peers.resolve() / "torchfcn" / "models")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.fcn8s").FCN8s(n_class=classes)


def peer_step(setting: Setting, batch: int) -> Callable[[], Tensor]:
    """pytorch-fcn's FCN-8s, its summed loss over the labelled pixels and plain SGD."""
    device = setting.device
    model = peer(setting, CLASSES).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-10, momentum=0.99, weight_decay=0.0005)
    torch.manual_seed(0)
    images = torch.rand(batch, 3, _side(setting), _side(setting)) * 255 - 115
    labels = _labels(batch, _side(setting))
    loss_of = nn.CrossEntropyLoss(ignore_index=255, reduction="sum")

    def step() -> Tensor:
        with torch.autocast(device.type, setting.dtype, enabled=setting.dtype != torch.float32):
            loss = loss_of(model(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _side(setting: Setting) -> int:
    return 64 if setting.quick else 512
