"""Figures of the published padding: FCN-8s on images of VOC's size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead
from fcn_plugin.models.features import Features
from figures.framework import Figure, Setting, Sides
from figures.steps import QUICK_LEVELS, QUICK_WIDTH, peer

PADDINGS = dict(conv1_1=100, fc6=0, fc7=0)  # as published; other layers have 1


def padding_plain(setting: Setting) -> Sides:
    """FCN-8s as published, against its plain layers on the whole padded image."""
    backbone, head = _published(setting, narrow=setting.quick)

    def plain(image: Tensor) -> Tensor:
        x, levels = image.contiguous(memory_format=torch.channels_last), []
        for stage in backbone.stages:
            for name, layer in stage.named_children():
                if isinstance(layer, nn.Conv2d):
                    padding = PADDINGS.get(name, 1)
                    x = functional.conv2d(x, layer.weight, layer.bias, padding=padding)
                else:
                    x = layer(x)
            levels.append(x)
        chosen = [levels[i] for i in backbone.out_indices]
        return head(Features(chosen, backbone.maps, image.shape[-2:], zero_border=True))

    return _forward(lambda image: head(backbone(image)), plain, setting)


def padding_peer(setting: Setting) -> Sides:
    """FCN-8s as published, against pytorch-fcn's with the same weights."""
    theirs = peer(setting, 21).to(setting.device).eval()
    backbone, head = _published(setting, narrow=False)
    weights = {name.split(".", 2)[2]: value for name, value in backbone.state_dict().items()}
    for name, score in zip(("score_pool3", "score_pool4", "score_fr"), head.score, strict=True):
        weights |= {f"{name}.{key}": value for key, value in score.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    # The upsampling layers are already bilinear.
    assert not unexpected and all(name.startswith("upscore") for name in missing), missing
    return _forward(lambda image: head(backbone(image)), theirs, setting)


def _published(setting: Setting, narrow: bool) -> tuple[nn.Module, SkipFusionHead]:
    """Backbone and head with random weights; all levels contribute about equally."""
    torch.manual_seed(0)
    width = QUICK_WIDTH if narrow else {}
    backbone = ConvolutionalizedVGG(16, padding="reference", **width)
    backbone.init_weights()
    head = SkipFusionHead(QUICK_LEVELS if narrow else (256, 512, 4096), (0, 1, 2), 21)
    for score in head.score:
        nn.init.kaiming_normal_(score.weight)
    return backbone.to(setting.device).eval(), head.to(setting.device).eval()


def _forward(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], setting: Setting
) -> Sides:
    """Both sides on noise of 1 x 3 x 375 x 500, the most frequent size in VOC."""
    size = (97, 131) if setting.quick else (375, 500)
    image = (torch.rand(1, 3, *size) * 255 - 115).to(setting.device)
    tolerance = 1e-5 if setting.dtype == torch.float32 else 0.05

    def inference(network: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        @torch.no_grad()
        def forward() -> Tensor:
            with setting.autocast():
                return network(image)

        return forward

    def agree(mine: Tensor, peer: Tensor) -> str:
        error = float((mine - peer).abs().max() / peer.abs().max())
        assert error <= tolerance, f"largest difference {error:.1e} of the largest score"
        return f"scores agree to {error:.0e} of the largest"

    return Sides(inference(ours), inference(theirs), agree, count=True)


NAME = "reference padding"
PLAIN = "our FCN-8s, the padded image computed plainly, 375 x 500"
PEER = "pytorch-fcn: FCN8s, 375 x 500"
FIGURES = [
    Figure(NAME, "network", PLAIN, padding_plain, repeats=3),
    Figure(f"{NAME}: pytorch-fcn", "network", PEER, padding_peer, None, dict(operations=0.85), 3),
]
