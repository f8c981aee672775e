"""NumPy's files of weights: vgg16.npy, vgg16_weights.npz, and the Chainer twin's FCNs.

An .npz is a zip of .npy files, an .npy a header (type, order, shape) and numbers. Those of the
Chainer twin, wkentaro/fcn, are named layer/W and layer/b, in Caffe's axes. Those of Frossard's
VGG16 are layer_W and layer_b, with the channels last, for RGB images. machrisaa's vgg16.npy and
vgg19.npy are one pickled dict, layer -> [kernel, bias], with the channels last; ``numpy_pickle``
reads them.
"""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.lib import format as npy

from fcn_plugin.errors import UserError, quoted
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.foreign import AGAIN, MAX_BYTES, Foreign, caffe_tensors
from fcn_plugin.weights.numpy_pickle import read_layers
from fcn_plugin.weights.sources import CAFFE_VGG, CAFFE_VGG_RGB, VOC

MAGIC = b"\x93NUMPY"
SUFFIX = ".npy"  # of the members of an .npz
CHAINER, FROSSARD = ("/W", "/b"), ("_W", "_b")  # ends of their names: of a kernel, of a bias


def looks_like_npz(start: bytes) -> bool:
    """Whether these are the first bytes of a zip whose first member is an array."""
    name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    return start.startswith(b"PK\x03\x04") and name.endswith(SUFFIX.encode())


def read_npy(path: Path, progress: Progress = silent) -> Foreign:
    """machrisaa's VGG-16 or VGG-19.

    Raises:
        UserError: the file is damaged, truncated or hostile, or holds anything else.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        _, dtype, _ = _header(path, file)
        if not dtype.hasobject:
            raise UserError(
                f"{path}: holds one array of numbers; only vgg16.npy and vgg19.npy can be read, "
                "which hold a table of layers"
            )
        layers = read_layers(path, file, progress)
    return Foreign("machrisaa", caffe_tensors(path, layers, channels_last=True), CAFFE_VGG)


def read_npz(path: Path, progress: Progress = silent) -> Foreign:
    """The Chainer twin's FCN or VGG-16, or Frossard's VGG-16; told apart by the arrays' names.

    Raises:
        UserError: the file is damaged, truncated, hostile, beyond ``MAX_BYTES``, or neither.
        OSError: it cannot be opened.
    """
    arrays = _arrays(path, progress)
    for ends in (CHAINER, FROSSARD):
        if all(name.endswith(ends) for name in arrays):
            break
    else:
        unknown = next(name for name in arrays if not name.endswith(CHAINER))
        raise UserError(
            f"{path}: has an array {quoted(unknown)}; expected layer/W and layer/b, as in the FCNs "
            "of Chainer, or layer_W and layer_b, as in Frossard's VGG16"
        )
    layers = _by_layer(path, arrays, ends)
    if ends == FROSSARD:  # whose code subtracts Caffe's means from RGB images
        tensors = caffe_tensors(path, layers, channels_last=True)
        return Foreign("Frossard", tensors, CAFFE_VGG_RGB)
    segmentor = any(layer.startswith("score") for layer in layers)
    tensors = caffe_tensors(path, layers, channels_last=False)
    return Foreign("Chainer", tensors, VOC if segmentor else CAFFE_VGG)


def _by_layer(
    path: Path, arrays: Mapping[str, np.ndarray], ends: tuple[str, str]
) -> dict[str, list[np.ndarray]]:
    kernel, bias = ends
    layers = {}
    for name, array in arrays.items():
        if name.endswith(kernel):
            layer = name.removesuffix(kernel)
            biases = [arrays[layer + bias]] if layer + bias in arrays else []
            layers[layer] = [array, *biases]
        elif name.removesuffix(bias) + kernel not in arrays:
            raise UserError(f"{path}: {quoted(name)} has no kernel beside it; {AGAIN}")
    return layers


def _arrays(path: Path, progress: Progress) -> dict[str, np.ndarray]:
    """The arrays of an .npz by name; neither a pickle in it nor more than ``MAX_BYTES`` is read."""
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MAX_BYTES:
                raise UserError(
                    f"{path}: expands to more than {MAX_BYTES >> 30} GB, which no network does"
                )
            for count, member in enumerate(members, start=1):
                with archive.open(member) as file:
                    content = cast(BinaryIO, file)
                    arrays[member.filename.removesuffix(SUFFIX)] = _array(path, content)
                progress("reading", count, len(members))
    except UserError:
        raise
    # What zipfile raises on arbitrary bytes is not documented.
    except Exception as error:
        raise UserError(f"{path}: damaged or truncated ({quoted(error)}); {AGAIN}") from error
    return arrays


def _array(path: Path, file: BinaryIO) -> np.ndarray:
    shape, dtype, columns_first = _header(path, file)
    if dtype.hasobject:
        raise UserError(f"{path}: holds a pickle, which is not opened; {AGAIN}")
    data = file.read()
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise UserError(f"{path}: an array has {len(data)} bytes for the shape {shape}; {AGAIN}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, type and whether columns come first."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, columns_first, dtype = read(file)
    # Beside ValueError, what the parser of Python's literals raises.
    except Exception as error:
        raise UserError(f"{path}: no array of NumPy's ({quoted(error)}); {AGAIN}") from error
    return shape, dtype, columns_first
