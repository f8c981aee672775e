"""Files of other frameworks, hostile, damaged or of another network: one line, nothing run."""

import os
import pickle
import struct
import sys
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from weights import foreign_files as write
from weights.constructor_attacks import Call, attacks

from fcn_plugin.errors import UserError
from fcn_plugin.weights import keras_files, matlab_files, numpy_files
from fcn_plugin.weights.files import FOREIGN, read_content
from fcn_plugin.weights.recognise import open_weights

TINY = {"conv1_1": [np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32)]}
TINY["fc6"] = [np.ones((2, 2, 7, 7), np.float32), np.zeros(2, np.float32)]
WRITERS = {
    "plain.mat": write.matconvnet,
    "compressed.mat": partial(write.matconvnet, do_compression=True),
    "2.npy": write.machrisaa,
    "3.npy": partial(write.machrisaa, python2=False),
    "plain.npz": write.frossard,
    "compressed.npz": write.chainer,
    "a.h5": write.keras,
}
READERS = {".mat": "mat", ".npy": "npy", ".npz": "npz", ".h5": "hdf5"}


def read(path: Path):
    return FOREIGN[READERS[path.suffix]][1](path).tensors


def refused(path: Path, message: str = "") -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_weights(path)
    line = str(raised.value)
    assert line.isprintable() and str(path) in line and len(line) < 600


@pytest.mark.parametrize("name", WRITERS)
def test_any_end_too_early_and_any_wrong_bit_is_one_line_or_read(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, TINY)
    whole = path.read_bytes()
    names, rng = read(path).keys(), np.random.default_rng(0)
    damaged = [whole[:length] for length in range(1, len(whole), len(whole) // 40 + 1)]
    for bit in rng.choice(8 * len(whole), 100, replace=False):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        damaged.append(data)
    cut = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            found = read(path)
            assert found.keys() <= {*names} or len(found) >= 1  # a name may have changed
        except UserError as error:
            assert str(error).isprintable() and str(path) in str(error)
            cut += len(data) < len(whole)
    assert cut >= 25, cut


def test_hostile_twins_of_vgg16_npy_are_refused_and_nothing_is_called(tmp_path):
    path, mark = tmp_path / "vgg16.npy", tmp_path / "mark"
    tried = 0
    for _, attack in attacks():
        for content in (attack, dict(conv1_1=attack), dict(conv1_1=[attack, attack])):
            try:
                path.write_bytes(write.npy_of(content, python2=False))
            except (pickle.PicklingError, TypeError, AttributeError):
                continue  # torch's own objects are pickled by torch alone
            refused(path)
            tried += 1
    assert tried > 300, tried
    call = Call(os.mkdir, str(mark))
    for python2 in (True, False):
        path.write_bytes(write.npy_of(dict(conv1_1=[call, call]), python2))
        refused(path, r"asks for (posix|nt)\.mkdir, and is not opened; .*np\.savez")
    assert not mark.exists()
    pickle.loads(pickle.dumps(call))  # what an unpickler would have done
    assert mark.exists()


HEADER = write.npy_of(None)[:80]
OPCODES = {
    "a call of what is no function": b"\x80\x02U\x01x)R.",
    "attributes of a table": b"\x80\x02}}U\x01aK\x01sb.",
    "an instance": b"\x80\x02(iposix\nsystem\n.",
    "a class made by name": b"\x80\x02cbuiltins\neval\n)\x81.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"\x80\x02Px\n.",
    "nothing on the stack": b"\x80\x02R.",
    "no mark": b"\x80\x02}u.",
    "a memo that is not there": b"\x80\x02j\xff\xff\xff\xff.",
    "a text beyond the file": b"\x80\x02T\xff\xff\xff\x7fx.",
    "no end": b"\x80\x02}",
    "a table by tables": b"\x80\x02}}K\x01s.",
}


@pytest.mark.parametrize("attack", OPCODES)
def test_no_other_opcode_is_followed(tmp_path, attack):
    path = tmp_path / "vgg16.npy"
    path.write_bytes(HEADER + OPCODES[attack])
    refused(path)


def test_nothing_expands_beyond_a_network(tmp_path, monkeypatch):
    for module in (matlab_files, numpy_files, keras_files):
        monkeypatch.setattr(module, "MAX_BYTES", 2**20)
    zeros = np.zeros(2**19, np.float32)  # 2 MB in some kB
    np.savez_compressed(tmp_path / "a.npz", conv1_1_W=zeros)
    savemat(tmp_path / "a.mat", dict(layers=zeros), do_compression=True)
    for name in ("a.npz", "a.mat"):
        assert (tmp_path / name).stat().st_size < 10_000
        refused(tmp_path / name, "more than 0 GB")
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("block1_conv1/w", (2**40,), "f4", chunks=(1024,), compression="gzip")
    refused(tmp_path / "a.h5", "has more than")


def test_an_npz_with_a_pickle_or_a_false_shape(tmp_path):
    path, mark = tmp_path / "a.npz", tmp_path / "mark"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv1_1_W.npy", write.npy_of(Call(os.mkdir, str(mark)), python2=False))
    refused(path, "holds a pickle, which is not opened")
    assert not mark.exists()
    with zipfile.ZipFile(path, "w") as archive:
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }"
        archive.writestr("conv1_1_W.npy", b"\x93NUMPY\x01\x00v\x00" + head.ljust(117) + b"\n")
    refused(path, "an array has 0 bytes for the shape")


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, content: bytes = b"", dims=(1, 1)) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0))
    return element(
        14, flags + element(5, struct.pack("<2i", *dims)) + element(1, b"layers") + content
    )


def nested(depth: int) -> bytes:
    parts, size = [], 0
    head = matrix(1)[8:]
    for _ in range(depth):
        size += len(head)
        parts.append(struct.pack("<II", 14, size) + head)
        size += 8
    return b"".join(reversed(parts))


MATRICES = {
    "a function handle": (matrix(16), "holds a function handle"),
    "an object": (matrix(3), "holds an object"),
    "an object of a class": (matrix(17), "holds an object"),
    "an object in a cell": (matrix(1, matrix(3)), "holds an object"),
    "cells in cells": (nested(300_000), "more than 8 levels of cells"),
    "more cells than a file has": (
        matrix(1, b"", (2**31 - 1, 1)),
        "parts, which no network here has; only imagenet",
    ),
    "structs without fields": (
        matrix(2, element(5, bytes([1, 0, 0, 0])) + element(1, b""), (2**31 - 1, 1)),
        "parts, which no network here has; only imagenet",
    ),
    "labels of SBD": (matrix(5), "holds a sparse matrix, which no network here has; only imagenet"),
    "an unknown class": (matrix(99), "the unknown class 99; copy or download it again"),
    "a negative size": (matrix(6, element(9, bytes(8)), (-1, -1)), "damaged or truncated"),
    "a false shape": (matrix(6, element(9, bytes(8)), (2**30, 2**30)), "1 numbers for the shape"),
    "no numbers": (matrix(6), "damaged or truncated"),
    "a stream cut off": (struct.pack("<II", 15, 9) + zlib.compress(bytes(999))[:9], "damaged or"),
    "no network": (matrix(6, element(9, bytes(8))), "no MatConvNet network"),
}


@pytest.mark.parametrize("fault", MATRICES)
def test_what_a_matlab_file_may_not_hold(tmp_path, fault):
    content, message = MATRICES[fault]
    path = tmp_path / "a.mat"
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(start + content)
    refused(path, message)


def test_no_hdf5_file_leads_to_another(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret, path = tmp_path / "secret.h5", tmp_path / "a.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones(4, np.float32)
    (tmp_path / "raw").write_bytes(bytes(16))
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
    name, message = "block1_conv1/w", "in another file|not followed"

    def cycle(file):
        file["block1_conv1"] = file["/"]

    for attack in (
        lambda file: file.__setitem__(name, h5py.ExternalLink(str(secret), "x")),
        lambda file: file.__setitem__(name, h5py.SoftLink("/elsewhere")),
        lambda file: file.create_virtual_dataset(name, layout),
        lambda file: file.create_dataset(name, (4,), "f4", external=[(tmp_path / "raw", 0, 16)]),
    ):
        with h5py.File(path, "w") as file:
            attack(file)
        refused(path, message)
    with h5py.File(path, "w") as file:
        cycle(file)
    refused(path, "more groups than any network")


def test_other_networks_are_named(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones(3))
    refused(path, "holds one array of numbers")
    np.savez(tmp_path / "x.npz", weights=np.ones(3))
    refused(tmp_path / "x.npz", "an array weights; expected layer/W")
    savemat(tmp_path / "dag.mat", dict(params=np.ones(3), layers=np.ones(3)))
    refused(tmp_path / "dag.mat", "a DagNN network")
    (tmp_path / "73.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + keras_files.MAGIC)
    refused(tmp_path / "73.mat", "save it with -v7")
    # CaffeNet and its likes have the same names in any order of norms and pools.
    layers = {f"conv{i}": TINY["conv1_1"] for i in range(1, 6)}
    write.matconvnet(tmp_path / "alex.mat", layers)
    refused(tmp_path / "alex.mat", "of its networks only VGG")
    write.machrisaa(path, {"\x1b[31m": TINY["conv1_1"]})
    refused(path, "has control characters in the name")
    path.write_bytes(write.npy_of(dict(conv1_1=np.ones(3))))
    refused(path, "conv1_1 is not a kernel and a bias")
    with pytest.raises(UserError, match="another framework's file; make a checkpoint of it"):
        read_content(path)  # where only a checkpoint will do


def test_keras_files_of_other_networks_and_without_h5py(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    with monkeypatch.context() as context:
        path.write_bytes(keras_files.MAGIC)
        context.setitem(sys.modules, "h5py", None)  # as if not installed
        refused(path, r"pip install 'fcn-plugin\[keras\]'")
    h5py = pytest.importorskip("h5py")
    write.keras(path, TINY | {"conv9_9": TINY["conv1_1"]})
    refused(path, "holds 6 tensors")
    write.keras(path, TINY, layout="3")
    refused(path, "1 convolutions and 1 dense layers; VGG16 has 13")
    with h5py.File(path, "w") as file:
        file["dense_4/kernel:0"] = np.ones((2, 2), np.float32)
    refused(path, r"of no layer of Keras' VGG16 or VGG19; .* save that one alone: keras\.Model")
    with h5py.File(path, "w") as file:
        file["block1_conv1/block1_conv1_W_1:0"] = TINY["conv1_1"][0]
        file["block1_conv1/block1_conv1_b_1:0"] = TINY["conv1_1"][1]
    refused(path, "Theano's axes; take the file named")


def test_an_archive_of_keras_is_named_with_the_way_to_its_weights(tmp_path):
    path = tmp_path / "vgg16.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", keras_files.MAGIC)
    refused(path, r"unzip vgg16\.keras model\.weights\.h5")
