"""Safetensors wherever a checkpoint is read or written, as good as PyTorch's format."""

import json
import shutil
import struct

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader, Runner
from mmseg.apis import init_model
from mmseg.registry import MODELS
from safetensors import safe_open
from safetensors.torch import save_file
from tools.running import config
from weights.caffe_files import write_caffemodel
from weights.published import fcn_layers

from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.shapes import write_shapes
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


def test_the_library_alone_refuses_our_tensors(tmp_path):
    """The negative control: weights are channels-last in memory."""
    for name, match in (("channels last", "non contiguous"), ("shared", "share memory")):
        tensors = {name: TENSORS[name], "shared too": TENSORS["shared too"]}
        with pytest.raises((ValueError, RuntimeError), match=match):
            save_file(tensors, tmp_path / "x.safetensors")


def test_meta_data_come_back(tmp_path):
    meta = dict(
        dataset_meta=dict(classes=("a", "b"), palette=[[0, 0, 0], [1, 2, 3]], label_map=None),
        input=dict(order="RGB", mean=(0.1, 1 / 3, 1e-30), std=(1.0, 2.0, 3.0)),
        note="äöü \n \" ' \\",
    )
    write_safetensors(dict(state_dict={}, meta=meta), tmp_path / "x.safetensors")
    assert read_content(tmp_path / "x.safetensors")["meta"] == meta


def test_numbers_of_numpy_become_plain(tmp_path):
    meta = dict(palette=np.eye(2, dtype=np.uint8), seed=np.int64(3))
    write_safetensors(dict(state_dict={}, meta=meta), tmp_path / "x.safetensors")
    plain = dict(palette=[[1, 0], [0, 1]], seed=3)
    assert read_content(tmp_path / "x.safetensors")["meta"] == plain


def test_the_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    write_safetensors(dict(state_dict={}, meta={}), tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_a_config_in_its_meta_data_is_dropped(tmp_path):
    meta = dict(config="__import__('os').mkdir('mark')")
    write_safetensors(dict(state_dict={}, meta=meta), tmp_path / "x.safetensors")
    assert CheckpointLoader.load_checkpoint(str(tmp_path / "x.safetensors"))["meta"] == {}


def test_files_of_others_are_plain_tensors(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    shutil.copy(tmp_path / "x.safetensors", tmp_path / "x")
    for name in ("x.safetensors", "x"):
        same(CheckpointLoader.load_checkpoint(str(tmp_path / name)), {"w": torch.ones(2)})


def test_the_content_counts_not_the_name(tmp_path):
    state = {"w": torch.ones(2)}
    torch.save(dict(state_dict=state, meta={}), tmp_path / "torch.safetensors")
    torch.save(
        dict(state_dict=state, meta={}),
        tmp_path / "legacy.safetensors",
        _use_new_zipfile_serialization=False,
    )
    write_safetensors(dict(state_dict=state, meta={}), tmp_path / "safetensors.pth")
    for name in ("torch.safetensors", "legacy.safetensors", "safetensors.pth"):
        check_checkpoint(tmp_path / name)
        for mmap in (False, True):
            same(read_content(tmp_path / name, mmap=mmap)["state_dict"], state)


class TestConversion:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """One published file in both formats, and each of them converted again."""
        folder = tmp_path_factory.mktemp("both")
        write_caffemodel(folder / "fcn8s.caffemodel", fcn_layers("fcn8s"))
        for name in ("one.pth", "one.safetensors"):
            convert(folder / "fcn8s.caffemodel", folder / name)
        convert(folder / "one.safetensors", folder / "again.pth")
        convert(folder / "one.pth", folder / "again.safetensors")
        return folder

    def test_both_hold_the_same(self, folder):
        expected, found = (read_content(folder / f"one.{kind}") for kind in ("pth", "safetensors"))
        same(found["state_dict"], expected["state_dict"])
        assert found["meta"] == expected["meta"]
        assert isinstance(found["meta"]["dataset_meta"]["classes"], tuple)

    def test_and_so_they_do_converted_again(self, folder):
        expected = read_content(folder / "again.pth")
        found = read_content(folder / "again.safetensors")
        same(found["state_dict"], expected["state_dict"])
        same(found["state_dict"], read_content(folder / "one.pth")["state_dict"])
        for content in (expected, found):
            content["meta"].pop("source")
        assert found["meta"] == expected["meta"]


class TestTrained:
    """A run's own checkpoint, BatchNorm and all."""

    @staticmethod
    def config(folder, **changes) -> Config:
        cfg = Config.fromfile(config(folder))
        cfg.model.backbone.norm_cfg = dict(type="BN")
        cfg.work_dir = str(folder / "run")
        cfg.experiment_name = f"{folder.name}{len(list(folder.rglob('*.log')))}"
        cfg.merge_from_dict(changes)
        return cfg

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("trained")
        with pytest.MonkeyPatch.context() as patched:
            patched.chdir(folder)
            write_shapes(folder / "data/shapes", 8, 4, seed=0)
            Runner.from_cfg(self.config(folder)).train()
            convert(folder / "run/iter_4.pth", folder / "own.safetensors")
            yield folder

    def test_converts_unchanged(self, folder):
        found = read_content(folder / "own.safetensors")
        trained = read_content(folder / "run/iter_4.pth")
        same(found["state_dict"], trained["state_dict"])
        for key in ("net", "padding"):
            assert found["meta"][key] == trained["meta"][key]
        assert found["meta"]["input"] == trained["meta"]["input"]

    def test_scores_the_same(self, folder):
        scores = [
            Runner.from_cfg(self.config(folder, load_from=str(folder / name))).test()
            for name in ("run/iter_4.pth", "own.safetensors")
        ]
        assert scores[0] == scores[1] and "mIoU" in scores[0]

    def test_init_model_knows_its_classes(self, folder):
        cfg = self.config(folder)
        models = [
            init_model(cfg.copy(), str(folder / name), device="cpu")
            for name in ("run/iter_4.pth", "own.safetensors")
        ]
        assert list(models[0].dataset_meta["classes"]) == list(models[1].dataset_meta["classes"])
        same(models[1].state_dict(), models[0].state_dict())

    def test_a_backbone_starts_from_it(self, folder):
        weights = dict(type="Pretrained", checkpoint=str(folder / "own.safetensors"))
        settings = self.config(folder).model.backbone
        backbone = MODELS.build(dict(settings, init_cfg=weights))
        backbone.init_weights()
        expected = read_content(folder / "run/iter_4.pth")["state_dict"]
        for name, tensor in backbone.state_dict().items():
            assert torch.equal(tensor, expected[f"backbone.{name}"]), name


def test_a_host_backbone_starts_from_one(tmp_path):
    settings = dict(type="ResNetV1c", depth=18, base_channels=2, stem_channels=2)
    state = {k: torch.rand_like(v.float()) for k, v in MODELS.build(settings).state_dict().items()}
    save_file(state, tmp_path / "x.safetensors")
    weights = dict(type="Pretrained", checkpoint=str(tmp_path / "x.safetensors"))
    backbone = MODELS.build(dict(settings, init_cfg=weights))
    backbone.init_weights()
    assert torch.equal(backbone.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])


ONE = dict(dtype="F32", shape=[1], data_offsets=[0, 4])


def file_of(header, data: bytes = bytes(4), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


FAULTS = {
    "empty": b"",
    "length only": struct.pack("<Q", 2),
    "nothing after the brace": struct.pack("<Q", 2) + b"{",
    "header longer than the file": file_of({"w": ONE}, length=10_000),
    "huge header": file_of({"w": ONE}, length=2**31),
    "header beyond memory": file_of({"w": ONE}, length=2**62),
    "no JSON": file_of(b"{w}"),
    "not closed": file_of(b'{"w":' + b"[" * 100_000),
    "data too short": file_of({"w": ONE}, bytes(3)),
    "data too long": file_of({"w": ONE}, bytes(5)),
    "no dtype": file_of({"w": dict(ONE, dtype="F31")}),
    "another size": file_of({"w": dict(ONE, shape=[2])}),
    "a size beyond all": file_of({"w": dict(ONE, shape=[2**62, 8])}),
    "offsets reversed": file_of({"w": dict(ONE, data_offsets=[4, 0])}),
    "two in one place": file_of({"v": ONE, "w": ONE}),
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


def test_the_sound_file_is_read(tmp_path):
    """The negative control of the faults."""
    (tmp_path / "x").write_bytes(file_of({"__metadata__": {"fcn_plugin": "{}"}, "w": ONE}))
    assert read_content(tmp_path / "x") == dict(meta={}, state_dict={"w": torch.zeros(1)})
    verify(tmp_path / "x")


def test_any_end_too_early_and_any_bit_of_the_header_is_one_line_or_read(tmp_path):
    path = tmp_path / "x.safetensors"
    write_safetensors(dict(state_dict={"w": torch.ones(4)}, meta=dict(net="fcn8s")), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as error:
            check_checkpoint(path)
        assert "\n" not in str(error.value)
    refused = 0
    for at in range(8 * (len(whole) - 16)):
        data = bytearray(whole)
        data[at // 8] ^= 1 << at % 8
        path.write_bytes(data)
        try:
            read_content(path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200
