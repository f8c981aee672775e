"""Safetensors wherever a checkpoint is read or written, as good as PyTorch's format."""

import json
import struct

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save_file

from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint, read_content, verify
from fcn_plugin.weights.safetensors_files import write_safetensors

SHARED = torch.arange(6.0)
TENSORS = {
    "channels last": torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "expanded": torch.ones(1, 3).expand(4, 3),
    "shared": SHARED,
    "shared too": SHARED,
    "part": SHARED[1:4],
    "strided": SHARED[::2],
    "bfloat16": torch.arange(3).bfloat16(),
    "float64": torch.arange(3).double(),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


def same(found, expected) -> None:
    """The same names, types, shapes and numbers."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor.detach()), name


def test_any_tensor_and_meta_data_come_back_but_for_a_config(tmp_path):
    meta = dict(
        dataset_meta=dict(
            classes=("a", "b"), palette=[[0, 0, 0], [1, 2, 3]], label_map={0: 0, 7: 255}
        ),
        input=dict(order="RGB", mean=(0.1, 1 / 3, 1e-30), std=(1.0, 2.0, 3.0)),
        note="äöü \n \" ' \\",
    )
    numpys = dict(array=np.eye(2, dtype=np.uint8), seed=np.int64(3))
    stored = meta | numpys | dict(config="__import__('os').mkdir('mark')")
    path = tmp_path / "x.safetensors"
    write_safetensors(dict(state_dict=TENSORS, meta=stored), path)
    content = read_content(path)
    assert content["meta"] == meta | dict(array=[[1, 0], [0, 1]], seed=3)
    same(content["state_dict"], TENSORS)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_the_content_counts_not_the_name(tmp_path):
    state = {"w": torch.ones(2)}
    content = dict(state_dict=state, meta={})
    torch.save(content, tmp_path / "torch.safetensors")
    legacy = tmp_path / "legacy.safetensors"
    torch.save(content, legacy, _use_new_zipfile_serialization=False)
    write_safetensors(content, tmp_path / "safetensors.pth")
    for path in tmp_path.iterdir():
        check_checkpoint(path)
        for mmap in (False, True):
            same(read_content(path, mmap=mmap)["state_dict"], state)
    save_file(state, tmp_path / "x", metadata={"format": "pt"})  # of others: plain tensors
    same(CheckpointLoader.load_checkpoint(str(tmp_path / "x")), state)


def file_of(header, data: bytes = bytes(4)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = dict(dtype="F32", shape=[1], data_offsets=[0, 4])
FAULTS = {
    "header beyond memory": struct.pack("<Q", 2**62) + b'{"w": 1}',
    "not closed": file_of(b'{"w":' + b"[" * 100_000),
    "a name for terminals": file_of({"\x1b[31m" * 50: dict(ONE, data_offsets=[4, 8])}),
    "meta too deep": file_of({"__metadata__": {"fcn_plugin": "[" * 100_000}, "w": ONE}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_one_line(tmp_path, fault):
    path = tmp_path / "x.safetensors"
    path.write_bytes(FAULTS[fault])
    with pytest.raises(UserError, match=r"x\.safetensors: .*; .*") as error:
        read_content(path)
    assert str(error.value).isprintable() and len(str(error.value)) < 500
    path.write_bytes(file_of({"__metadata__": {"fcn_plugin": "{}"}, "w": ONE}))  # a sound one
    assert read_content(path) == dict(meta={}, state_dict={"w": torch.zeros(1)})
    verify(path)


def test_any_end_too_early_and_any_bit_of_the_header_is_one_line_or_read(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(dict(state_dict={"w": torch.ones(4)}, meta=dict(net="fcn8s")), path)
    whole = path.read_bytes()
    flipped = [bytearray(whole) for _ in range(0, 8 * (len(whole) - 16), 3)]
    for number, data in enumerate(flipped):
        data[3 * number // 8] ^= 1 << 3 * number % 8
    refused = 0
    for data in [*flipped, *(whole[:length] for length in range(0, len(whole), 9))]:
        path.write_bytes(data)
        try:
            check_checkpoint(path)
            assert len(data) == len(whole)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 90, refused
