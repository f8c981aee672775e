"""Narrow backbones and segmentors, features of other backbones, and labelled samples."""

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedGoogLeNet,
    ConvolutionalizedVGG,
)

CLASSES = 5
BACKBONES = {
    "vgg16": (ConvolutionalizedVGG, dict(depth=16)),
    "caffenet": (ConvolutionalizedAlexNet, dict(variant="caffenet")),
    "alexnet": (ConvolutionalizedAlexNet, dict(variant="torchvision")),
    "googlenet": (ConvolutionalizedGoogLeNet, dict(variant="paper")),
    "googlenet, batch norm": (ConvolutionalizedGoogLeNet, dict(variant="torchvision")),
}
NARROW = {
    ConvolutionalizedVGG: dict(base_channels=2, fc_channels=4),
    ConvolutionalizedAlexNet: dict(base_channels=4, fc_channels=4),
    ConvolutionalizedGoogLeNet: dict(base_channels=8),
}
VGG = dict(type="ConvolutionalizedVGG", depth=11, base_channels=4, fc_channels=8)


def backbone(net: str = "vgg16", **settings) -> nn.Module:
    """One of ``BACKBONES`` with initial weights."""
    kind, variant = BACKBONES[net]
    made = kind(**NARROW[kind] | variant | settings)
    made.init_weights()
    return made


def built(padding="same", backbone=None, head=None, **settings) -> nn.Module:
    """A narrow FCN-8s on VGG-11; a backbone or a head with a type takes the place of its own."""
    vgg = VGG | dict(padding=padding)
    skips = dict(
        type="SkipFusionHead", in_channels=(16, 32, 8), in_index=(0, 1, 2), num_classes=CLASSES
    )
    parts = dict(
        type="FCNSegmentor",
        data_preprocessor=dict(type="SegDataPreProcessor"),
        backbone=backbone if "type" in (backbone or ()) else vgg | (backbone or {}),
        decode_head=head if "type" in (head or ()) else skips | (head or {}),
        test_cfg=dict(mode="whole"),
    )
    return MODELS.build(ConfigDict(parts | settings))


def segmentor(**settings) -> nn.Module:
    """``built`` with random weights that keep activations in size."""
    model = built(**settings)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        gain = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() == 4 else 0.1
        nn.init.normal_(parameter, std=gain, generator=generator)
    return model


def features(
    size, strides=(8, 16, 32), channels=(4, 5, 6), dtype=torch.float32
) -> tuple[Tensor, ...]:
    """What a backbone of mmseg returns: a plain tuple, sizes rounded up."""
    return tuple(
        torch.randn(2, c, *(-(-side // stride) for side in size), dtype=dtype)
        for c, stride in zip(channels, strides, strict=True)
    )


def labelled(size, label: Tensor | None = None, void: float = 0.0, **meta) -> list[SegDataSample]:
    """Two samples with random labels, some of them void, or with ``label``."""
    shapes = dict(img_shape=size, ori_shape=size, pad_shape=size)
    samples = []
    for _ in range(2):
        data = torch.randint(0, CLASSES, (1, *size)) if label is None else label.clone()
        data[torch.rand(data.shape) < void] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=data), metainfo=shapes | meta)
        samples.append(sample)
    return samples


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operator makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return made
