"""Writes the files of other frameworks for tests, each in its publisher's layout.

Nothing is shared with the readers: MATLAB's format is written by SciPy, HDF5 by h5py, NumPy's by
NumPy, and the pickle of Python 2 by Python's own pickler, made to write as Python 2 did.

Layers come as Caffe's: kernels out x in x H x W for BGR images.
"""

import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from weights.published import BASE, FC, WIDTHS, Layers, layer

CONVS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
MEAN_RGB = (123.68, 116.779, 103.939)
# What may go wrong with axes and colours; each is undone by another reader, or by none.
SWAPPED, CAFFES_ORDER, OTHER_COLOURS = "H and W swapped", "fc6 in Caffe's order", "other colours"


def vgg(depth: int = 16, top: bool = True) -> Layers:
    """VGG in small, with ImageNet's layer (of 10 classes), or the convolutions alone."""
    rng, layers, channels = np.random.default_rng(depth), {}, 3
    for stage, (convs, wide) in enumerate(zip(CONVS[depth], WIDTHS, strict=True), 1):
        for conv in range(1, convs + 1):
            layers[f"conv{stage}_{conv}"] = layer(rng, (wide * BASE, channels, 3, 3))
            channels = wide * BASE
    if top:
        layers["fc6"] = layer(rng, (FC, channels, 7, 7))
        layers["fc7"] = layer(rng, (FC, FC, 1, 1))
        layers["fc8"] = layer(rng, (10, FC, 1, 1))
    return layers


def channels_last(layers: Layers, rgb: bool, connected: bool, mistake: str = "") -> Layers:
    """Kernels H x W x in x out.

    Args:
        rgb: the first kernel takes RGB.
        connected: fc6, fc7 and fc8 are in x out, fc6's inputs in the order H, W, C.
        mistake: one of the three above.
    """
    last = {}
    for name, (kernel, bias) in layers.items():
        if name == "conv1_1" and rgb != (mistake == OTHER_COLOURS):
            kernel = kernel[:, ::-1]
        turned = kernel.transpose((3, 2, 1, 0) if mistake == SWAPPED else (2, 3, 1, 0))
        if connected and name.startswith("fc"):
            if mistake == CAFFES_ORDER:
                turned = kernel.transpose(1, 2, 3, 0)
            turned = turned.reshape(-1, turned.shape[-1])
        last[name] = [np.ascontiguousarray(turned), bias]
    return last


def matconvnet(path: Path, layers: Layers, mistake: str = "", old: bool = False, **options) -> None:
    """As MatConvNet's importer of Caffe models does; ``old``: as until 2015."""
    cell = []
    for name, (kernel, bias) in channels_last(layers, True, False, mistake).items():
        both = np.empty((1, 2), object)
        both[0, 0], both[0, 1] = kernel, bias[None]
        weights = dict(filters=kernel, biases=bias[None]) if old else dict(weights=both)
        window = dict(pad=np.ones((1, 4)), stride=np.ones((1, 2)))
        cell.append(dict(name=name, type="conv") | weights | window)
        cell.append(dict(name=f"relu{name[4:]}", type="relu"))
    pool = dict(name="pool1", type="pool", method="max", pool=np.full((1, 2), 2.0))
    cell.insert(4, pool if old else dict(pool, weights=np.empty((0, 0), object)))
    structs = np.empty((1, len(cell)), object)
    structs[0] = cell
    image = np.broadcast_to(MEAN_RGB, (224, 224, 3)) if old else np.array([MEAN_RGB])
    about = dict(normalization=dict(averageImage=image, imageSize=np.array([[224.0, 224.0, 3.0]])))
    about["classes"] = dict(name=np.array([["n01440764", "n01443537"]], object))
    savemat(path, dict(layers=structs) | (about if old else dict(meta=about)), **options)


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 writes it: texts of one byte a character, arrays' numbers as such."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        short = len(data) < 256
        head = b"U" + bytes([len(data)]) if short else b"T" + struct.pack("<i", len(data))
        self.write(head + data)
        self.memoize(value)

    def save_name(self, value, name=None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(f"c{module}\n{name or value.__qualname__}\n".encode())
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string
    dispatch[type] = dispatch[type(pickle.loads)] = dispatch[type(np.dot)] = save_name
    save_global = save_name


def npy_of(content: object, python2: bool = True) -> bytes:
    """``np.save`` of any object, of Python 2 or of now."""
    array = np.empty((), object)
    array[()] = content
    file = io.BytesIO()
    if python2:
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
        file.write(b"\x93NUMPY\x01\x00F\x00" + header.ljust(69) + b"\n")
        Python2Pickler(file, 2).dump(array)
    else:
        np.save(file, array, allow_pickle=True)
    return file.getvalue()


def machrisaa(path: Path, layers: Layers, mistake: str = "", python2: bool = True) -> None:
    """``python2=False``: as of a network that was trained further, which holds dicts."""
    table = channels_last(layers, False, True, mistake)
    further = {name: {1: bias, 0: kernel} for name, (kernel, bias) in table.items()}
    path.write_bytes(npy_of(table if python2 else further, python2))


def frossard(path: Path, layers: Layers, mistake: str = "") -> None:
    last = channels_last(layers, True, True, mistake)
    np.savez(path, **parts_of(last, "_"))


def chainer(path: Path, layers: Layers, mistake: str = "") -> None:
    """As ``chainer.serializers.save_npz``, which compresses; nothing is turned."""
    if mistake == SWAPPED:
        layers = {name: [np.swapaxes(blobs[0], 2, 3), *blobs[1:]] for name, blobs in layers.items()}
    np.savez_compressed(path, **parts_of(layers, "/"))


def parts_of(layers: Layers, between: str) -> dict[str, np.ndarray]:
    return {
        f"{name}{between}{end}": blob
        for name, blobs in layers.items()
        for end, blob in zip("Wb", blobs, strict=False)
    }


KERAS = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


def keras(path: Path, layers: Layers, mistake: str = "", layout: str = "published") -> None:
    """Layouts: "published" (Keras 1), "save" (a whole model of Keras 2), "3" (save_weights)."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if layout == "save" else file
        if layout != "3":
            root.create_group("block1_pool")
        numbers = {"conv2d": 0, "dense": 0}
        for name, blobs in channels_last(layers, False, True, mistake).items():
            stage, _, conv = name.removeprefix("conv").partition("_")
            own = KERAS.get(name, f"block{stage}_conv{conv}")
            kind = "dense" if name in KERAS else "conv2d"
            number = f"_{numbers[kind]}" if numbers[kind] else ""
            numbers[kind] += 1
            paths = {
                "published": [f"{own}/{own}_W_1:0", f"{own}/{own}_b_1:0"],
                "save": [f"{own}/{own}/kernel:0", f"{own}/{own}/bias:0"],
                "3": [f"layers/{kind}{number}/vars/{i}" for i in range(2)],
            }[layout]
            for at, blob in zip(paths, blobs, strict=True):
                root[at] = blob
        if layout == "save":
            file["optimizer_weights/iteration:0"] = np.int64(7)
