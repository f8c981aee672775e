"""Hostile files through every door that a checkpoint can come in by: nothing is executed.

All of it with TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD set, which makes PyTorch execute pickles wherever
``weights_only`` is not stated.
"""

import ast
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from engine import runs
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as host
from tools.running import REPOSITORY, config
from weights import constructor_attacks
from weights.hostile_files import DOORS, FILES, execute, hostile

from fcn_plugin.errors import UserError
from fcn_plugin.weights import host_loaders
from fcn_plugin.weights.files import check_checkpoint, read, read_content


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The hostile files, each of which makes the folder ``marks/NAME``, and a tiny config."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "marks").mkdir()
    for name in FILES:
        (folder / name).write_bytes(hostile(str(folder / "marks" / name))[name])
    config(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def unsafe_defaults(folder):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        yield


@pytest.fixture(scope="module")
def served(folder):
    """The address of ``folder`` on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SimpleHTTPRequestHandler, "log_message", lambda *args: None)
        patched.setenv("no_proxy", "*")
        httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        httpd.server_close()


@pytest.fixture(scope="module")
def runner(folder):
    return runs.runner(folder / "run", custom_hooks=[dict(type="InputCheckHook")])


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """PyTorch's cache of what it has downloaded, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path / "hub/checkpoints"


@contextmanager
def refused(path: Path, words: str = "") -> Iterator[None]:
    """In one line that names the file, gives a remedy, and does not advise to execute it."""
    with pytest.raises(UserError, match=words) as error:
        yield
    message = str(error.value)
    assert message.startswith(f"{path}: ") and message.isprintable() and ";" in message
    assert "weights_only" not in message and len(message) < 500
    assert not (path.parent / "marks").exists() or not list((path.parent / "marks").iterdir())


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_executed(folder, name):
    with refused(folder / name):
        read_content(folder / name)


@pytest.mark.parametrize("door", [*DOORS, "load_checkpoint", "resume"])
def test_nor_by_any_door(folder, runner, door):
    """All doors lead through the one above; the last two are the runner's."""
    path = folder / "getattr.pth"
    with refused(path):
        DOORS[door](path) if door in DOORS else getattr(runner, door)(str(path))


def test_nor_when_it_comes_from_elsewhere(folder, served, hub):
    address = f"{served}/eval.pth"
    with refused(hub / "eval.pth", re.escape(f"(from {address}; delete")):
        CheckpointLoader.load_checkpoint(address)
    assert list((folder / "marks").iterdir()) == []


LOADERS = re.compile(
    r"(torch(\.hub|\.jit|\.serialization)?|pickle|joblib|dill|mmengine)\.(unsafe_)?(load|Unpickler)"
)


def test_one_line_of_the_package_unpickles_files():
    """And one what its own workers hand over."""
    calls = []
    sources = [*(REPOSITORY / "fcn_plugin").rglob("*.py"), *(REPOSITORY / "tools").rglob("*.py")]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and LOADERS.match(ast.unparse(node.func)):
                calls.append((path.relative_to(REPOSITORY).as_posix(), ast.unparse(node)))
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "torch"):
                assert not {each.name for each in node.names} & {"load", "loads", "Unpickler"}, path
    assert len(sources) > 100
    calls = [call for call in calls if call[0] != "fcn_plugin/system/workers.py"]
    ((path, call),) = calls
    assert path == "fcn_plugin/weights/files.py" and "weights_only=True" in call


@pytest.mark.parametrize("name", FILES)
def test_each_would_run_if_it_were_executed(tmp_path, name):
    """The negative control."""
    (tmp_path / name).write_bytes(hostile(str(tmp_path / "mark"))[name])
    execute(tmp_path / name)
    assert (tmp_path / "mark").is_dir()


NAMES_IN_FILES = ("\x1b[31mred", "a\x07b", "x" * 1000)
KINDS = {
    "asks for torch.nn.modules.linear.Linear": torch.nn.Linear(1, 1),
    "holds no state_dict": [torch.zeros(1)],
    "holds no state_dict;": {"optimizer": {}},
}


def test_files_of_other_kinds(tmp_path, folder, recwarn):
    path = tmp_path / "net.pth"
    with refused(folder / "system.pth", "asks for posix.system, which may run code.*state_dict"):
        read_content(folder / "system.pth")
    for words, content in KINDS.items():
        torch.save(content, path)
        with refused(path, words):
            check_checkpoint(path)
    path.write_bytes(b"\x0a\x03net\xa2\x06\x05\x0a\x03fc6")
    with refused(path, "a Caffe model; make a checkpoint of it"):
        CheckpointLoader.load_checkpoint(str(path))
    with pytest.raises(FileNotFoundError, match=r"none\.pth: no such checkpoint; check its name$"):
        CheckpointLoader.load_checkpoint(str(tmp_path / "none.pth"))
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)
    before = len(recwarn)
    with refused(path, "a TorchScript program, which is not opened"):
        read_content(path)
    assert len(recwarn) == before


def archived_again(path: Path, **options) -> zipfile.ZipFile:
    """The same archive, to be added to."""
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    target = zipfile.ZipFile(path, "w", **options)
    for name, content in parts.items():
        target.writestr(name, content)
    return target


@pytest.mark.parametrize("name", NAMES_IN_FILES, ids=["red", "bell", "long"])
def test_no_name_in_a_file_disturbs_the_terminal(tmp_path, name):
    path = tmp_path / "names.pth"
    path.write_bytes(f"c{name}\n{name}\n.".encode())
    with refused(path):
        read_content(path)
    torch.save({"state_dict": {"w": torch.zeros(1)}}, path)
    with archived_again(path) as target:
        entry = zipfile.ZipInfo(f"names/{name}")
        entry.external_attr = 0x10
        target.writestr(entry, b"")
    with refused(path, "is marked as a folder"):
        read_content(path)


def attack(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the unpickler may call and fill, with whatever a file gives it."""
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    return subprocess.run(
        [sys.executable, constructor_attacks.__file__, str(file), *arguments],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


def test_constructors_give_nothing_but_data(tmp_path):
    done = attack(tmp_path / "a.pth")
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) > 130
    for case, outcomes in found.items():
        assert outcomes["ours"] in ("refused", "loaded"), (case, outcomes)
        # Plain torch.load gives tokens, and may say what it likes.
        if case.startswith("ndarray called"):
            assert outcomes["torch.load"].startswith("raised "), (case, outcomes)
    # The negative control: where numpy's own class is allowed, the process dies.
    assert attack(tmp_path / "a.pth", "control").returncode < 0


@pytest.mark.parametrize("ours", [True, False])
def test_the_config_of_a_checkpoint_is_not_executed(tmp_path, runner, monkeypatch, ours):
    """mmengine's Runner executes ``meta["config"]`` on resuming; its own loader is the control."""
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
def known(folder, served, hub, monkeypatch):
    """Every address that mmengine calls a scheme knows the files of ``folder``."""
    torch.save({"state_dict": {"backbone.w": torch.arange(3.0)}}, folder / "good.pth")
    known = {path.name: f"{served}/{path.name}" for path in folder.iterdir()}
    known["at home"] = "good.pth"  # of the user's own list
    for name in ("external", "mmcls", "torchvision"):
        monkeypatch.setattr(host_loaders, f"get_{name}_models", lambda: known)
    monkeypatch.setenv("MMENGINE_HOME", str(folder))


ADDRESSES = [
    f"{scheme}://good.pth" for scheme in ("torchvision", "modelzoo", "open-mmlab", "mmcls")
]


@pytest.mark.parametrize("address", [*ADDRESSES, "openmmlab://at home"])
def test_addresses_bring_tensors_and_no_code(folder, known, address):
    state = CheckpointLoader.load_checkpoint(address)["state_dict"]
    name = "w" if address.startswith("mmcls") else "backbone.w"
    assert list(state) == [name] and state[name].tolist() == [0, 1, 2]
    with pytest.raises(UserError) as error:
        CheckpointLoader.load_checkpoint(f"{address.partition(':')[0]}://system.pth")
    assert "\n" not in str(error.value)
    assert list((folder / "marks").iterdir()) == []


def test_addresses_that_nobody_reads_or_knows(known, monkeypatch):
    monkeypatch.setattr(host_loaders, "get_torchvision_models", host.get_torchvision_models)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    for address, message in (
        *((f"{s}://a", rf"^{s}://a: .*; copy it here") for s in ("pavi", "s3", "petrel", "b:s3")),
        ("openmmlab://god.pth", r"did you mean 'openmmlab://good\.pth'"),
        ("torchvision://resnet18", "only torchvision knows the address"),
    ):
        with pytest.raises(UserError, match=message):
            CheckpointLoader.load_checkpoint(address)
    for scheme, loader in CheckpointLoader._schemes.items():
        assert loader.__module__ == host_loaders.__name__, scheme


class TestDamage:
    @pytest.fixture
    def checkpoint(self, tmp_path) -> Path:
        state = {f"layer{i}.weight": torch.full((40, 10), float(i)) for i in range(3)}
        torch.save({"state_dict": state, "meta": {}}, tmp_path / "iter.pth")
        return tmp_path / "iter.pth"

    @pytest.mark.parametrize("layer", [0, 2])
    def test_in_any_tensor_is_seen(self, checkpoint, layer):
        with zipfile.ZipFile(checkpoint) as archive:
            content = archive.read(f"iter/data/{layer}")
        data = bytearray(checkpoint.read_bytes())
        data[data.index(content) + 123] ^= 1
        checkpoint.write_bytes(data)
        torch.load(checkpoint, weights_only=True)  # the negative control: PyTorch sees nothing
        for door in (check_checkpoint, read, DOORS["loader"]):
            with refused(checkpoint, f": damaged, .* iter/data/{layer} "):
                door(checkpoint)

    def test_anywhere_is_seen_or_harmless(self, checkpoint):
        """Harmless is what lies between the records: their tensors come through."""
        whole, expected = checkpoint.read_bytes(), read_content(checkpoint)["state_dict"]
        flipped = [bytearray(whole) for _ in range(0, len(whole), 61)]
        for number, data in enumerate(flipped):
            data[61 * number] ^= 1 << 61 * number % 8
        refusals = 0
        for data in [*flipped, *(whole[:length] for length in range(0, len(whole), 151))]:
            checkpoint.write_bytes(data)
            try:
                check_checkpoint(checkpoint)
            except UserError as error:
                assert str(error).startswith(f"{checkpoint}: ") and "\n" not in str(error)
                refusals += 1
            else:
                assert len(data) == len(whole)
                found = read_content(checkpoint)["state_dict"]
                assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert refusals > 50

    def test_that_makes_a_folder_of_a_tensor_is_seen(self, checkpoint):
        """PyTorch does not read it, and the tensor is whatever was in memory."""
        data = bytearray(checkpoint.read_bytes())
        entry = data.rindex(b"iter/data/2") - 46  # of the archive's directory
        data[entry + 38] |= 0x10
        checkpoint.write_bytes(data)
        torch.load(checkpoint, weights_only=True)  # the negative control: it says nothing
        with pytest.raises(UserError, match="iter/data/2 is marked as a folder"):
            read_content(checkpoint)

    def test_a_bomb_is_not_unfolded(self, checkpoint):
        archived_again(checkpoint, compression=zipfile.ZIP_DEFLATED).close()
        with refused(checkpoint, "compressed, as no PyTorch file is"):
            check_checkpoint(checkpoint)
