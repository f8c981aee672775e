"""Bring the layers of other frameworks' files to Caffe's names, axes and types.

The readers of these files (``matconvnet``, ``numpy_files``, ``keras_files``) find each layer's
kernel and bias and call ``caffe_tensors``, so that all after them sees Caffe's layout alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.weights.sources import Input

MAP_SIDE = 7  # of pool5, which fc6 sees, for VGG's images of 224 pixels
MAX_BYTES = 2 << 30  # of one file's tensors; VGG-19 has 0.6 GB
AGAIN = "copy or download it again"


class Foreign(NamedTuple):
    """What a file of another framework holds.

    Attributes:
        publisher: for messages.
        tensors: Caffe's name -> tensor of float32, in Caffe's axes.
        input: what the network was trained on; None if the file does not tell.
        notes: what is to be known before the weights are used, unless it is a published file.
    """

    publisher: str
    tensors: dict[str, Tensor]
    input: Input | None
    notes: tuple[str, ...] = ()


def caffe_tensors(
    path: Path, layers: Mapping[str, Sequence[np.ndarray]], channels_last: bool
) -> dict[str, Tensor]:
    """Tensors by Caffe's names, e.g. "conv1_1.weight", from each layer's kernel and bias.

    Args:
        path: for messages.
        layers: Caffe's name of a layer -> its kernel and bias; upsampling layers have no bias.
        channels_last: kernels are H x W x in x out, or in x out; else out x in x H x W, or
            out x in, as Caffe's.

    Raises:
        UserError: a layer has other parts than a kernel and a bias, or other numbers than floats,
            or fc6 is no layer over a map of 7 x 7.
    """
    tensors = {}
    for layer, blobs in layers.items():
        for kind, blob in zip(("weight", "bias"), blobs, strict=False):
            if len(blobs) > 2 or blob.dtype.kind != "f" or not 0 < blob.ndim <= 4:
                raise UserError(
                    f"{path}: {quoted(layer)} is not a kernel and a bias of floating-point "
                    f"numbers; {AGAIN}"
                )
            if kind == "bias":
                blob = blob.reshape(-1)
            elif channels_last:
                blob = _turned(path, layer, blob)
            with np.errstate(over="ignore"):  # doubles beyond float32 become infinite
                numbers = np.require(blob, np.float32, ["C", "W"])
            tensors[f"{layer}.{kind}"] = torch.from_numpy(numbers)
    return tensors


def _turned(path: Path, layer: str, kernel: np.ndarray) -> np.ndarray:
    """A kernel with the channels first.

    fc6's rows are pool5's numbers in the order H, W, C of a map with the channels last; Caffe's
    are in the order C, H, W.
    """
    if layer == "fc6" and kernel.ndim == 2:
        inputs, outputs = kernel.shape
        if inputs % MAP_SIDE**2:
            raise UserError(
                f"{path}: fc6 has {inputs} inputs, expected a multiple of {MAP_SIDE} x {MAP_SIDE}: "
                "only networks for images of 224 pixels can be read"
            )
        kernel = kernel.reshape(MAP_SIDE, MAP_SIDE, inputs // MAP_SIDE**2, outputs)
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
