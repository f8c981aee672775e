"""SegNet on VGG16 layer by layer, from the windows and names of the files of its tutorial.

Independent of the package and of torch's convolution, pooling, unpooling and normalisation: sums
over shifted maps, loops over windows, and indexing, which autograd follows. A mistake undoes one
point on purpose, in every layer that it applies to.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

CONVS = (2, 2, 3, 3, 3)
EPS = 1e-5  # of PyTorch's BatchNorm


class Plain(dict[str, Tensor]):
    """The output of each layer by its name in the files, that of a convolution after its ReLU.

    Args:
        image: N x 3 x H x W, float64.
        weights: ``conv1_1.weight``, ``conv1_1.bias``, and of its normalisation ``norm_conv1_1.``
            ``weight``, ``bias``, ``running_mean`` and ``running_var``, and so on.
        training: normalise by the statistics of the batch.
    """

    def __init__(
        self, image: Tensor, weights: dict[str, Tensor], training: bool = False, mistake: str = ""
    ) -> None:
        super().__init__()
        self.weights, self.training, self.mistake = weights, training, mistake
        x, taken = image, []
        for stage, convs in enumerate(CONVS, start=1):
            for conv in range(1, convs + 1):
                x = self.conv(x, f"conv{stage}_{conv}")
            pixels, size = self.largest(x), x.shape
            x = self[f"pool{stage}"] = x[pixels]
            taken.append((pixels, size))
        for stage, convs in reversed(list(enumerate(CONVS, start=1))):
            x = self[f"upsample{stage}"] = self.unpool(x, *taken.pop())
            for conv in range(convs, 0, -1):
                x = self.conv(x, f"conv{stage}_{conv}_D", last=stage == conv == 1)

    def conv(self, x: Tensor, name: str, last: bool = False) -> Tensor:
        """3 x 3 with a border of zeros; normalised and rectified unless it is the last."""
        weight, bias = (self.weights[f"{name}.{kind}"] for kind in ("weight", "bias"))
        height, width = x.shape[2:]
        x = functional.pad(x, (1, 1, 1, 1))
        y = bias[:, None, None] + sum(
            torch.einsum("nihw,oi->nohw", x[..., r : r + height, c : c + width], weight[..., r, c])
            for r in range(3)
            for c in range(3)
        )
        if not last:
            y = self.norm(y, f"norm_{name}").clamp(min=0)
        self[name] = y
        return y

    def norm(self, x: Tensor, name: str) -> Tensor:
        if self.training:
            mean = x.mean((0, 2, 3))
            var = (x - mean[:, None, None]).square().mean((0, 2, 3))
        else:
            mean, var = (self.weights[f"{name}.running_{kind}"] for kind in ("mean", "var"))
        scale = self.weights[f"{name}.weight"] / (var + EPS).sqrt()
        shift = self.weights[f"{name}.bias"] - mean * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def largest(self, x: Tensor) -> tuple[Tensor, ...]:
        """Indices of the largest pixel of each 2 x 2 window, the last of a row or column cut off.

        Of equal pixels the first, row by row.
        """
        values = x.detach().numpy()
        count, channels, height, width = values.shape
        shape = count, channels, -(-height // 2), -(-width // 2)
        indices = np.indices(shape)
        for n, c, i, j in np.ndindex(*shape):
            best = None
            for row in range(2 * i, min(2 * i + 2, height)):
                for col in range(2 * j, min(2 * j + 2, width)):
                    value = values[n, c, row, col]
                    ties = best is not None and self.mistake == "last of ties" and value == best
                    if best is None or value > best or ties:
                        best = value
                        indices[2:, n, c, i, j] = row, col
        return tuple(map(torch.from_numpy, indices))

    def unpool(self, x: Tensor, pixels: tuple[Tensor, ...], size: torch.Size) -> Tensor:
        height, width = size[2:]
        if self.mistake == "bilinear":
            return functional.interpolate(x, (height, width), mode="bilinear")
        images, channels, rows, cols = pixels
        if self.mistake == "moved by one pixel":
            cols = (cols + 1) % width
        if self.mistake == "switches of the first image":
            rows, cols = (axis[:1].expand_as(axis) for axis in (rows, cols))
        return torch.zeros(size, dtype=x.dtype).index_put((images, channels, rows, cols), x)
