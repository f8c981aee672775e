"""The published FCN-8s, 16s and 32s on VGG16, layer by layer from the table in Caffe's net.py.

Independent of the package: it imports nothing of it, takes its parameters by the names of the
Caffe files and its crops from the publication. ``mistake`` undoes one point on purpose.
"""

import torch
from torch import Tensor
from torch.nn import functional

CONVS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}


def backbone(
    image: Tensor, weights: dict[str, Tensor], pad: int = 100, mistake: str = ""
) -> dict[str, Tensor]:
    """pool1 .. pool5 and fc7 of VGG16; ``pad`` 100 is published, 1 with fc6 padded by 3 is not."""
    levels = {}
    x = image
    for stage, convs in CONVS.items():
        for conv in range(1, convs + 1):
            name = f"conv{stage}_{conv}"
            padding = pad if name == "conv1_1" else 1
            x = functional.conv2d(
                x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding
            )
            x = torch.relu(x)
        x = functional.max_pool2d(x, 2, 2, ceil_mode=mistake != "floor pooling")
        levels[f"pool{stage}"] = x
    fc6 = weights["fc6.weight"]
    if mistake == "transposed fc6":
        fc6 = fc6.transpose(2, 3)
    x = torch.relu(functional.conv2d(x, fc6, weights["fc6.bias"], padding=0 if pad == 100 else 3))
    levels["fc7"] = torch.relu(functional.conv2d(x, weights["fc7.weight"], weights["fc7.bias"]))
    return levels


def upscore(x: Tensor, factor: int) -> Tensor:
    """Transposed convolution with a full class x class kernel, bilinear on its diagonal."""
    classes, size = x.shape[1], 2 * factor
    kernel = x.new_zeros(classes, classes, size, size)
    for row in range(size):
        for col in range(size):
            weight = (1 - abs(row - (factor - 0.5)) / factor) * (
                1 - abs(col - (factor - 0.5)) / factor
            )
            kernel[range(classes), range(classes), row, col] = weight
    return functional.conv_transpose2d(x, kernel, stride=factor)


def crop(x: Tensor, offset: int, height: int, width: int) -> Tensor:
    return x[..., offset : offset + height, offset : offset + width]


def head(
    levels: dict[str, Tensor],
    scores: dict[str, tuple[Tensor, Tensor]],
    size: tuple[int, int],
    mistake: str = "",
) -> dict[str, Tensor]:
    """FCN-32s, 16s or 8s, by the levels in ``scores`` (level -> weight, bias); published crops."""
    moved = 1 if mistake == "crop moved by one" else 0
    at = {name: functional.conv2d(levels[name], *params) for name, params in scores.items()}
    out = {"score_fr": at["fc7"]}
    if set(scores) == {"fc7"}:
        out["score"] = crop(upscore(at["fc7"], 32), 19 + moved, *size)
        return out
    out["upscore2"] = upscore(at["fc7"], 2)
    out["fuse_pool4"] = out["upscore2"] + crop(at["pool4"], 5 + moved, *out["upscore2"].shape[2:])
    if "pool3" not in scores:
        out["score"] = crop(upscore(out["fuse_pool4"], 16), 27, *size)
        return out
    out["upscore_pool4"] = upscore(out["fuse_pool4"], 2)
    skip = crop(at["pool3"], 9, *out["upscore_pool4"].shape[2:])
    out["fuse_pool3"] = out["upscore_pool4"] + skip
    out["score"] = crop(upscore(out["fuse_pool3"], 8), 31, *size)
    return out
