"""Safetensors wherever a checkpoint is read or written, as good as PyTorch's format."""

import json
import struct

import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmseg.apis import init_model
from mmseg.registry import MODELS
from prediction.trained import CLASSES, trained
from safetensors import safe_open
from safetensors.torch import save_file
from weights.caffe_files import write_caffemodel
from weights.published import fcn_layers

from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.weights.files import check_checkpoint, read_content, verify
from fcn_plugin.weights.safetensors_files import write_safetensors

SHARED = torch.arange(6.0)
TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "channels last": torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "expanded": torch.ones(1, 3).expand(4, 3),
    "shared": SHARED,
    "shared too": SHARED,
    "part": SHARED[1:4],
    "strided": SHARED[::2],
    "bfloat16": torch.arange(3).bfloat16(),
    "float16": torch.arange(3).half(),
    "float64": torch.arange(3).double(),
    "count": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "empty too": torch.zeros(0),
    "parameter": torch.nn.Parameter(torch.ones(2)),
}


def same(found, expected) -> None:
    """The same names, types, shapes and numbers."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor.detach()), name


def test_any_tensor_comes_back(tmp_path):
    write_safetensors(dict(state_dict=TENSORS, meta={}), tmp_path / "x.safetensors")
    content = read_content(tmp_path / "x.safetensors")
    assert content["meta"] == {}
    same(content["state_dict"], TENSORS)
    # The negative control: weights are channels-last in memory.
    for name, match in (("channels last", "non contiguous"), ("shared", "share memory")):
        tensors = {name: TENSORS[name], "shared too": TENSORS["shared too"]}
        with pytest.raises((ValueError, RuntimeError), match=match):
            save_file(tensors, tmp_path / "x.safetensors")


def test_meta_data_come_back_but_for_a_config(tmp_path):
    meta = dict(
        dataset_meta=dict(classes=("a", "b"), palette=[[0, 0, 0], [1, 2, 3]], label_map=None),
        input=dict(order="RGB", mean=(0.1, 1 / 3, 1e-30), std=(1.0, 2.0, 3.0)),
        note="äöü \n \" ' \\",
    )
    numpys = dict(array=np.eye(2, dtype=np.uint8), seed=np.int64(3))
    stored = meta | numpys | dict(config="__import__('os').mkdir('mark')")
    path = tmp_path / "x.safetensors"
    write_safetensors(dict(state_dict={}, meta=stored), path)
    assert read_content(path)["meta"] == meta | dict(array=[[1, 0], [0, 1]], seed=3)
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    with safe_open(path, "pt") as file:
        assert file.metadata()["format"] == "pt"


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


def test_both_formats_hold_the_same_and_are_converted_again(tmp_path):
    write_caffemodel(tmp_path / "a.caffemodel", fcn_layers("fcn8s"))
    contents = []
    for source, target in (
        ("a.caffemodel", "one.pth"),
        ("a.caffemodel", "one.safetensors"),
        ("one.safetensors", "again.pth"),
        ("one.pth", "again.safetensors"),
    ):
        convert(tmp_path / source, tmp_path / target)
        contents.append(read_content(tmp_path / target))
        assert isinstance(contents[-1]["meta"]["dataset_meta"]["classes"], tuple)
        assert contents[-1]["meta"].pop("source")["file"] == source
    for content in contents[1:]:
        same(content["state_dict"], contents[0]["state_dict"])
        assert content["meta"] == contents[0]["meta"]


def test_a_runs_own_checkpoint_gives_the_same_model(tmp_path):
    extra = "model = dict(backbone=dict(norm_cfg=dict(type='BN')))"
    config, path = trained(tmp_path, extra, dataset_meta=dict(classes=CLASSES))
    converted = tmp_path / "own.safetensors"
    convert(path, converted)
    expected = read_content(path)["state_dict"]
    same(read_content(converted)["state_dict"], expected)
    model = init_model(str(config), str(converted), device="cpu")
    assert tuple(model.dataset_meta["classes"]) == CLASSES
    same(model.state_dict(), expected)
    weights = dict(type="Pretrained", checkpoint=str(converted))
    backbone = MODELS.build(dict(model.cfg.model.backbone, init_cfg=weights))
    backbone.init_weights()
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, expected[f"backbone.{name}"]), name


ONE = dict(dtype="F32", shape=[1], data_offsets=[0, 4])


def file_of(header, data: bytes = bytes(4), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


FAULTS = {
    "empty": b"",
    "nothing after the brace": struct.pack("<Q", 2) + b"{",
    "header longer than the file": file_of({"w": ONE}, length=10_000),
    "header beyond memory": file_of({"w": ONE}, length=2**62),
    "no JSON": file_of(b"{w}"),
    "not closed": file_of(b'{"w":' + b"[" * 100_000),
    "data too short": file_of({"w": ONE}, bytes(3)),
    "another size": file_of({"w": dict(ONE, shape=[2])}),
    "a hole": file_of({"w": dict(ONE, data_offsets=[4, 8])}, bytes(8)),
    "a name for terminals": file_of({"\x1b[31m" * 50: dict(ONE, data_offsets=[4, 8])}),
    "meta no texts": file_of({"__metadata__": {"fcn_plugin": {}}, "w": ONE}),
    "meta no JSON": file_of({"__metadata__": {"fcn_plugin": "{"}, "w": ONE}),
    "meta no table": file_of({"__metadata__": {"fcn_plugin": "[1]"}, "w": ONE}),
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
    for length in range(0, len(whole), 9):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            check_checkpoint(path)
        assert "\n" not in str(error.value)
    refused = 0
    for at in range(0, 8 * (len(whole) - 16), 3):
        data = bytearray(whole)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        try:
            read_content(path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 70
