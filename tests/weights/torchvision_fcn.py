"""torchvision's FCN on ResNet, a sixteenth as wide."""

import torch
from torch import Tensor

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTH, CLASSES = 4, 21  # the width is the first layer's; torchvision's is 64


def fcn_resnet(depth: int) -> dict[str, Tensor]:
    """torchvision's state_dict, a sixteenth as wide."""
    generator, state = torch.Generator().manual_seed(depth), {}

    def conv(name: str, *shape: int) -> None:
        spread = (2 / torch.Size(shape[1:]).numel()) ** 0.5
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * spread

    def norm(name: str, channels: int) -> None:
        for kind in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{kind}"] = torch.rand(channels, generator=generator) * 0.5 + 0.25
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def head(name: str, channels: int) -> None:
        conv(f"{name}.0", channels // 4, channels, 3, 3)
        norm(f"{name}.1", channels // 4)
        conv(f"{name}.4", CLASSES, channels // 4, 1, 1)
        state[f"{name}.4.bias"] = torch.randn(CLASSES, generator=generator)

    conv("backbone.conv1", WIDTH, 3, 7, 7)
    norm("backbone.bn1", WIDTH)
    channels = WIDTH
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        inside = WIDTH * 2 ** (stage - 1)
        for block in range(blocks):
            prefix = f"backbone.layer{stage}.{block}"
            for i, (outputs, inputs, side) in enumerate(
                ((inside, channels, 1), (inside, inside, 3), (4 * inside, inside, 1)), start=1
            ):
                conv(f"{prefix}.conv{i}", outputs, inputs, side, side)
                norm(f"{prefix}.bn{i}", outputs)
            if block == 0:
                conv(f"{prefix}.downsample.0", 4 * inside, channels, 1, 1)
                norm(f"{prefix}.downsample.1", 4 * inside)
            channels = 4 * inside
    head("classifier", channels)
    head("aux_classifier", channels // 2)
    return state
