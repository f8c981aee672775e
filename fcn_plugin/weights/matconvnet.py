"""MatConvNet's files of VGG: imagenet-vgg-verydeep-16.mat and -19.mat, of both generations.

A network is a cell of structs, one for each layer, in the variable ``layers``. Until 2015 a
convolution had the fields ``filters`` and ``biases``; since, ``weights``, a cell of both. Kernels
are H x W x in x out (MatConvNet's utils/import-caffe.py; some TensorFlow FCNs swap H and W, and so
run VGG with its kernels mirrored at the diagonal). The images are RGB, and the importer turned the
first kernel to RGB; the mean is in the file: ``normalization.averageImage``, since 2015
``meta.normalization.averageImage``, of the image's size or of one pixel.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.errors import UserError
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.foreign import AGAIN, Foreign, caffe_tensors
from fcn_plugin.weights.matlab_files import READABLE, read_matlab
from fcn_plugin.weights.sources import Input

RGB = 3


def read_matconvnet(path: Path, progress: Progress = silent) -> Foreign:
    """The layers of a network, and the mean that it was trained with.

    Raises:
        UserError: as ``read_matlab``, or it is no such network.
    """
    content = read_matlab(path, progress)
    layers = content.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, dict) for layer in layers):
        kind = "a DagNN network, not a SimpleNN" if "params" in content else "no MatConvNet network"
        raise UserError(f"{path}: {kind}; {READABLE}")
    found = {}
    for layer in layers:
        blobs = layer.get("weights", [layer[k] for k in ("filters", "biases") if k in layer])
        if not len(blobs):
            continue  # a ReLU, a pooling, or the softmax
        name = layer.get("name")
        arrays = all(isinstance(blob, np.ndarray) for blob in blobs)
        if not isinstance(name, str) or name in found or not arrays:
            raise UserError(f"{path}: a layer has no arrays, or no name of its own; {AGAIN}")
        found[name] = [_at_least_4d(blobs[0]), *blobs[1:]]
    tensors = caffe_tensors(path, found, channels_last=True)
    return Foreign("MatConvNet", tensors, _input(content))


def _at_least_4d(kernel: np.ndarray) -> np.ndarray:
    """MATLAB drops trailing dimensions of one: a layer of a single output."""
    return kernel.reshape(kernel.shape + (1,) * (4 - kernel.ndim))


def _input(content: dict[str, Any]) -> Input | None:
    meta = content.get("meta")
    for holder in (content, meta if isinstance(meta, dict) else {}):
        normalization = holder.get("normalization")
        image = normalization.get("averageImage") if isinstance(normalization, dict) else None
        if isinstance(image, np.ndarray) and image.size and image.size % RGB == 0:
            # One pixel may be a row or a column; an image has the colours last.
            mean = image.reshape(-1, RGB, order="F").mean(0, dtype=np.float64)
            return Input("RGB", tuple(map(float, mean)), (1.0,) * RGB)
    return None
