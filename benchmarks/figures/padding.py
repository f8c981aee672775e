"""Figures of the published padding: FCN-8s on images of VOC's size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead
from figures.framework import Figure, Setting, Sides
from figures.steps import peer

CLASSES = 21


def setup(setting: Setting) -> Sides:
    """Both sides on noise of 1 x 3 x 375 x 500, the most frequent size in VOC."""
    theirs = peer(setting, CLASSES).to(setting.device).eval()
    torch.manual_seed(0)
    backbone = ConvolutionalizedVGG(16, padding="reference")
    backbone.init_weights()
    head = SkipFusionHead((256, 512, 4096), (0, 1, 2), CLASSES)
    weights = {name.split(".", 2)[2]: value for name, value in backbone.state_dict().items()}
    for name, score in zip(("score_pool3", "score_pool4", "score_fr"), head.score, strict=True):
        nn.init.kaiming_normal_(score.weight)  # so that all levels contribute about equally
        weights |= {f"{name}.{key}": value for key, value in score.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    # The upsampling layers are already bilinear.
    assert not unexpected and all(name.startswith("upscore") for name in missing), missing
    ours = nn.Sequential(backbone, head).to(setting.device).eval()
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


PEER = "pytorch-fcn: FCN8s, 375 x 500"
FIGURES = [Figure("reference padding", "network", PEER, setup, repeats=3)]
