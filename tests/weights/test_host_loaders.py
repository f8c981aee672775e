"""Hostile files through every door that a checkpoint can come in by: nothing is executed.

All of it with TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD set, which makes PyTorch execute pickles wherever
``weights_only`` is not stated. Each hostile file makes a folder when it is read as a pickle.
"""

import ast
import io
import multiprocessing
import os
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine import runs
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as host
from mmseg.apis import MMSegInferencer
from mmseg.registry import MODELS
from tools.running import REPOSITORY
from weights import constructor_attacks
from weights.constructor_attacks import Call

from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.weights import host_loaders
from fcn_plugin.weights.files import read_content


@pytest.fixture(autouse=True)
def unsafe_defaults(monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save({"meta": {"iter": 1, "epoch": 1}, "state_dict": {"w": content}}, file, **options)
    return file.getvalue()


def through_getattr(mark: str) -> Call:
    """From a class that mmengine's checkpoints hold to the built-in functions."""
    module = Call(getattr, Call(getattr, HistoryBuffer, "__init__"), "__globals__")
    builtins = Call(Call(getattr, module, "get"), "__builtins__")
    return Call(Call(Call(getattr, builtins, "get"), "eval"), f"__import__('os').mkdir({mark!r})")


def mkdir(mark: str) -> Call:
    return Call(os.mkdir, mark)


# The bytes of each file; ``mark`` is the folder that it makes.
HOSTILE: dict[str, Callable[[str], bytes]] = {
    "system.pth": lambda mark: saved(Call(os.system, f"mkdir {mark}")),
    "getattr.pth": lambda mark: saved(through_getattr(mark)),
    "objects.pth": lambda mark: saved(np.array([mkdir(mark)], dtype=object)),
    # A storage as bytes, which PyTorch reads by a torch.load of its own.
    "nested.pth": lambda mark: saved(Call(torch.storage._load_from_bytes, saved(mkdir(mark)))),
    "persistent.pkl": lambda mark: f"cposix\nmkdir\n(V{mark}\ntR0Pid\n.".encode(),
    "legacy.pth": lambda mark: saved(mkdir(mark), _use_new_zipfile_serialization=False),
    "torch.safetensors": lambda mark: saved(mkdir(mark)),
    "text.caffemodel": lambda mark: pickle.dumps(mkdir(mark), 0),
}


def execute(path: Path) -> None:
    """Read ``path`` in both ways that execute it; what they raise is of no interest."""
    for load in (pickle.loads, lambda data: torch.load(io.BytesIO(data), weights_only=False)):
        with suppress(Exception):
            load(path.read_bytes())


@contextmanager
def refused(path: Path, words: str | None = None) -> Iterator[None]:
    """In one line that names the file, gives a remedy, and does not advise to execute it."""
    with pytest.raises(UserError, match=words) as error:
        yield
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and ";" in message
    assert "weights_only" not in message and len(message) < 500


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_executed(tmp_path, name):
    path, mark = tmp_path / name, tmp_path / "mark"
    path.write_bytes(HOSTILE[name](str(mark)))
    with refused(path):
        read_content(path)
    assert not mark.exists()
    execute(path)  # the negative control
    assert mark.is_dir()


def fill(path: Path) -> None:
    kind = dict(type="ConvolutionalizedVGG", depth=11, base_channels=2, fc_channels=8)
    weights = dict(type="Pretrained", checkpoint=str(path))
    MODELS.build(dict(kind, init_cfg=weights)).init_weights()


DOORS: dict[str, Callable[[Path], Any]] = {
    "loader": lambda path: CheckpointLoader.load_checkpoint(str(path)),
    "backbone": fill,
    "convert": lambda path: convert(path, path.parent / "converted.safetensors"),
    "inferencer alone": lambda path: MMSegInferencer(None, str(path), device="cpu"),
}


@pytest.mark.parametrize("door", DOORS)
def test_nor_by_any_door(tmp_path, door):
    """Those of the tools are in tests/tools."""
    path, mark = tmp_path / "getattr.pth", tmp_path / "mark"
    path.write_bytes(HOSTILE[path.name](str(mark)))
    with refused(path):
        DOORS[door](path)
    assert not mark.exists()


LOADERS = re.compile(
    r"(torch(\.hub|\.jit|\.serialization)?|pickle|joblib|dill|mmengine)\.(unsafe_)?(load|Unpickler)"
)


def test_one_line_of_the_package_unpickles_files():
    """And two what its own workers hand over."""
    own_workers = {"fcn_plugin/system/workers.py", "fcn_plugin/engine/handover.py"}
    calls = []
    sources = [*(REPOSITORY / "fcn_plugin").rglob("*.py"), *(REPOSITORY / "tools").rglob("*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and LOADERS.match(ast.unparse(node.func)):
                calls.append((path.relative_to(REPOSITORY).as_posix(), ast.unparse(node)))
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "torch"):
                assert not {each.name for each in node.names} & {"load", "loads", "Unpickler"}, path
    assert len(sources) > 100
    calls = [call for call in calls if call[0] not in own_workers]
    ((path, call),) = calls
    assert path == "fcn_plugin/weights/files.py" and "weights_only=True" in call
    for scheme, loader in CheckpointLoader._schemes.items():
        assert loader.__module__ == host_loaders.__name__, scheme


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "net.pth"
    path.write_bytes(b"\x0a\x03net\xa2\x06\x05\x0a\x03fc6")
    with refused(path, "a Caffe model; make a checkpoint of it"):
        CheckpointLoader.load_checkpoint(str(path))
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    with refused(path, "a TorchScript program, which is not opened"):
        read_content(path)
    path.write_bytes(b"c\x1b[31mred\n\x1b[31mred\n.")  # for the terminal
    with refused(path):
        read_content(path)
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such checkpoint"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "none.pth"))


def forked(work: Callable[[Path], None], path: Path) -> int | None:
    """The exit code of a process that does ``work``; below 0 where a signal ends it."""
    process = multiprocessing.get_context("fork").Process(target=work, args=(path,))
    process.start()
    process.join()
    return process.exitcode


def test_constructors_give_nothing_but_data(tmp_path):
    """What the unpickler may call and fill, with whatever a file gives it."""
    assert len([*constructor_attacks.attacks()]) > 100
    assert forked(constructor_attacks.try_all, tmp_path / "a.pth") == 0
    # The negative control: where numpy's own class is allowed, the process dies.
    assert forked(constructor_attacks.with_numpys_class, tmp_path / "a.pth") < 0


@pytest.mark.parametrize("ours", [True, False])
def test_the_config_of_a_checkpoint_is_not_executed(tmp_path, monkeypatch, ours):
    """mmengine's Runner executes ``meta["config"]`` on resuming; its own loader is the control."""
    runner = runs.runner(tmp_path / "run", custom_hooks=[dict(type="InputCheckHook")])
    path, mark = tmp_path / "iter.pth", tmp_path / "mark"
    kept = dict(save_optimizer=False, save_param_scheduler=False, by_epoch=False)
    runner.save_checkpoint(str(tmp_path), path.name, **kept)
    content = torch.load(path, weights_only=True)
    content["meta"]["config"] = f"__import__('os').mkdir({str(mark)!r})"
    torch.save(content, path)
    if not ours:
        monkeypatch.delenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
        monkeypatch.setitem(CheckpointLoader._schemes, "", host.load_from_local)
    runner.resume(str(path))
    assert mark.exists() != ours


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[str]:
    """The address of ``tmp_path``, whose files every address that mmengine calls a scheme knows."""
    torch.save({"state_dict": {"backbone.w": torch.arange(3.0)}}, tmp_path / "good.pth")
    mark = str(tmp_path / "mark")
    (tmp_path / "system.pth").write_bytes(HOSTILE["system.pth"](mark))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MMENGINE_HOME", str(tmp_path))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{httpd.server_port}"
        known = {name: f"{address}/{name}" for name in ("good.pth", "system.pth")}
        known["at home"] = "good.pth"  # of the user's own list
        for name in ("external", "mmcls", "torchvision"):
            monkeypatch.setattr(host_loaders, f"get_{name}_models", lambda: known)
        yield address
        httpd.shutdown()


ADDRESSES = [f"{scheme}://good.pth" for scheme in ("torchvision", "open-mmlab", "mmcls")]


@pytest.mark.parametrize("address", ["http", *ADDRESSES, "openmmlab://at home"])
def test_addresses_bring_tensors_and_no_code(tmp_path, served, address):
    address = f"{served}/good.pth" if address == "http" else address
    state = CheckpointLoader.load_checkpoint(address)["state_dict"]
    name = "w" if address.startswith("mmcls") else "backbone.w"
    assert list(state) == [name] and state[name].tolist() == [0, 1, 2]
    hostile = f"{address.rpartition('/')[0]}/system.pth"
    with pytest.raises(UserError, match="; delete the file to fetch it again") as error:
        CheckpointLoader.load_checkpoint(hostile)
    assert f"(from {served}/system.pth" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "mark").exists()
    for unknown in ("openmmlab://god.pth", "pavi://a"):
        with pytest.raises(UserError, match=f"^{unknown}: .*; "):
            CheckpointLoader.load_checkpoint(unknown)
