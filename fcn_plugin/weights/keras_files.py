"""Keras' VGG16 and VGG19 (.h5), with and without the classifier (``include_top``).

Three layouts are read. The published files and ``save_weights`` of Keras 1 and 2 have a group for
each layer, by its name: ``block1_conv1``, ..., ``fc1``, ``fc2``, ``predictions``. ``save`` of Keras
2 has these in ``model_weights``. ``save_weights`` of Keras 3 numbers the layers of a class:
``layers/conv2d_3/vars/0``. Kernels have the channels last; images are Caffe's (keras-applications,
``imagenet_utils.preprocess_input``, mode "caffe").

An HDF5 file may take its numbers from other files (links, virtual and external data sets); none of
these is followed.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.foreign import AGAIN, MAX_BYTES, Foreign, caffe_tensors
from fcn_plugin.weights.networks import VGG_CONVS
from fcn_plugin.weights.sources import CAFFE_VGG

MAGIC = b"\x89HDF\r\n\x1a\n"
NAMED = re.compile(r"(?:model_weights/)?(?:block(\d)_conv(\d)|(fc1|fc2|predictions))/")
NUMBERED = re.compile(r"layers/(conv2d|dense)(?:_(\d+))?/vars/[01]")
OPTIMIZER = ("optimizer/", "optimizer_weights/")
CLASSIFIER = {"fc1": "fc6", "fc2": "fc7", "predictions": "fc8"}
READABLE = (
    "only these can be read. Of a network built on one save that one alone: "
    "keras.Model(inputs, last_layer_of_vgg.output).save_weights(FILE)"
)
ASSUMED = (
    "this input is assumed: Keras' published files have it. If yours was trained on another, "
    "e.g. images / 255, give that in the config and ignore the warning"
)
DEPTH, MAX_GROUPS = 6, 10_000  # Keras has 4 levels of groups and some hundred


def read_keras(path: Path, progress: Progress = silent) -> Foreign:
    """The layers of a VGG.

    Raises:
        UserError: h5py is missing, the file is damaged, truncated, hostile or beyond
            ``MAX_BYTES``, or it holds another network.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError(
            f"{path}: Keras' files are read with h5py; pip install 'fcn-plugin[keras]'"
        ) from error
    try:
        with h5py.File(path, "r") as file:
            arrays = {n: d for n, d in _arrays(h5py, path, file) if not n.startswith(OPTIMIZER)}
            layers = _layers(path, arrays, progress)
    except UserError:
        raise
    # What h5py raises on arbitrary bytes is not documented.
    except Exception as error:
        raise UserError(f"{path}: damaged or truncated ({quoted(error)}); {AGAIN}") from error
    tensors = caffe_tensors(path, layers, channels_last=True)
    return Foreign("Keras", tensors, CAFFE_VGG, notes=(ASSUMED,))


def _arrays(h5py: Any, path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    """(name, data set) of each in the file, none of them read; their sum is within bounds."""
    groups, seen, size = [("", file, 0)], 0, 0
    while groups:
        prefix, group, depth = groups.pop()
        for key in group:
            name, seen = f"{prefix}{key}", seen + 1
            if seen > MAX_GROUPS or depth == DEPTH:
                raise UserError(f"{path}: has more groups than any network; {AGAIN}")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise UserError(f"{path}: {quoted(name)} is a link, which is not followed")
            item = group[key]
            if isinstance(item, h5py.Group):
                groups.append((f"{name}/", item, depth + 1))
                continue
            if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
                raise UserError(f"{path}: {quoted(name)} lies in another file, which is not read")
            size += item.nbytes
            if size > MAX_BYTES:
                raise UserError(
                    f"{path}: has more than {MAX_BYTES >> 30} GB, which no network here has"
                )
            yield name, item


def _layers(path: Path, arrays: dict[str, Any], progress: Progress) -> dict[str, list[np.ndarray]]:
    """Kernel and bias by Caffe's names of the layers."""
    numbered = [match for name in arrays if (match := NUMBERED.fullmatch(name))]
    order = _numbered(path, {(m[1], int(m[2] or 0)) for m in numbered}) if numbered else {}
    layers: dict[str, list[np.ndarray]] = {}
    for count, (name, array) in enumerate(arrays.items(), start=1):
        if match := NUMBERED.fullmatch(name):
            layer = order[match[1], int(match[2] or 0)]
        elif match := NAMED.match(name):
            layer = CLASSIFIER[match[3]] if match[3] else f"conv{match[1]}_{match[2]}"
        else:
            raise UserError(
                f"{path}: {quoted(name)} is of no layer of Keras' VGG16 or VGG19; {READABLE}"
            )
        layers.setdefault(layer, []).append(array[()])
        progress("reading", count, len(arrays))
    layers = {layer: sorted(blobs, key=lambda b: -b.ndim) for layer, blobs in layers.items()}
    kernel, *bias = layers.get("conv1_1", [np.zeros(0)])
    if bias and kernel.ndim == 4 and kernel.shape[0] == bias[0].size != kernel.shape[3]:
        raise UserError(
            f"{path}: its kernels have Theano's axes; take the file named "
            "..._tf_dim_ordering_tf_kernels"
        )
    return layers


def _numbered(path: Path, layers: set[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Caffe's name of each layer that is known by its class and number."""
    convs = sorted(layer for layer in layers if layer[0] == "conv2d")
    dense = sorted(layers.difference(convs))
    for stages in VGG_CONVS.values():
        if sum(stages) == len(convs) and len(dense) in (0, len(CLASSIFIER)):
            names = [f"conv{s}_{i + 1}" for s, n in enumerate(stages, 1) for i in range(n)]
            return dict(zip([*convs, *dense], [*names, *CLASSIFIER.values()], strict=False))
    raise UserError(
        f"{path}: has {len(convs)} convolutions and {len(dense)} dense layers; VGG16 has 13, VGG19 "
        f"16, with three dense layers or none; {READABLE}"
    )
