"""Files named by their hash, by path and by address, against a small server on this machine."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmseg.registry import MODELS

from fcn_plugin.engine.resuming import find_checkpoint
from fcn_plugin.errors import UserError
from fcn_plugin.system.download import digest_in, file_digests
from fcn_plugin.weights.addresses import fetched
from fcn_plugin.weights.files import read_content
from fcn_plugin.weights.recognise import open_weights
from fcn_plugin.weights.safetensors_files import write_safetensors

NO_HASHES = [f"net-{end}.safetensors" for end in ("20310131", "203101311230", "00012000")]
BACKBONE = dict(type="ConvolutionalizedVGG", depth=11, base_channels=2, fc_channels=8)


def hashed(folder: Path) -> Path:
    """A network's weights under a name with their hash."""
    torch.manual_seed(0)
    state = MODELS.build(BACKBONE).state_dict()
    state = {f"backbone.{name}": torch.randn(tensor.shape) for name, tensor in state.items()}
    head = dict(weight=torch.randn(2, 8, 1, 1), bias=torch.randn(2))
    state |= {f"decode_head.score.0.{name}": tensor for name, tensor in head.items()}
    plain = folder / "net.safetensors"
    write_safetensors(dict(state_dict=state, meta=dict(net="fcn32s")), plain)
    digits = file_digests(plain, ["sha256"])["sha256"][:8]
    return plain.rename(folder / f"net-{digits}.safetensors")


def damage(path: Path) -> None:
    """Change one bit of the last tensor."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def filled(checkpoint: str) -> torch.nn.Module:
    backbone = MODELS.build(dict(BACKBONE, init_cfg=dict(type="Pretrained", checkpoint=checkpoint)))
    backbone.init_weights()
    return backbone


DOORS: dict[str, Callable[[str], Any]] = {
    "loader": CheckpointLoader.load_checkpoint,
    "tools": find_checkpoint,
    "backbone": filled,
}


@pytest.mark.parametrize("door", [*DOORS, "convert"])
def test_a_hash_in_the_name_is_compared(tmp_path, door):
    path = hashed(tmp_path)
    read = DOORS.get(door, lambda file: open_weights(Path(file)))
    read(str(path))
    damage(path)
    with pytest.raises(UserError, match=rf"^{path}: damaged, or .* not {path.stem[-8:]}; copy"):
        read(str(path))
    # Without the hash nothing is known of its bytes, and other endings of names are no hashes.
    for name in ("net.safetensors", "net-v2.safetensors", "net-1a2b3c4d.pth", *NO_HASHES):
        read(str(path.rename(tmp_path / name)))
        path = tmp_path / name
        assert digest_in(name) is None


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Any]:
    """A server of ``tmp_path``, with its address and what it was asked for."""

    class Handler(SimpleHTTPRequestHandler):
        asked: list = []  # one list for all requests, on purpose
        files: Path = tmp_path
        url: str

        def do_GET(self):
            self.asked.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            """Silence."""

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(Handler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        Handler.url = f"http://127.0.0.1:{httpd.server_port}"
        yield Handler
        httpd.shutdown()


@pytest.mark.parametrize("door", DOORS)
def test_by_address_and_hub(tmp_path, server, monkeypatch, door):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    folder = tmp_path / "owner/model/resolve/main"
    folder.mkdir(parents=True)
    path = hashed(folder)
    address = f"hf://owner/model/{path.name}"
    DOORS[door](address)
    kept = tmp_path / "cache/checkpoints" / path.name
    web = f"{server.url}/owner/model/resolve/main/{path.name}"
    DOORS[door](web)  # from the cache
    assert server.asked == [f"/owner/model/resolve/main/{path.name}"]
    damage(kept)
    with pytest.raises(UserError, match=rf"^{kept}: .*\(from {address}; delete the file to"):
        DOORS[door](address)
    kept.unlink()
    damage(path)
    with pytest.raises(UserError, match=f"^{web}: what arrived has sha256 .*, expected .*try"):
        DOORS[door](address)
    assert not kept.exists()
    with pytest.raises(UserError, match="names no file of a model; give hf://OWNER/NAME/FILE"):
        DOORS[door]("hf://owner/model")


def test_files_of_one_name_are_not_mixed_up(tmp_path, server, monkeypatch):
    """Hubs call most files model.safetensors; a hash is one file's, wherever it is."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    one_file = ("net-0123abcd.pth", "vgg13-19584684.pth")  # torchvision's, without a letter
    names = ("model.safetensors", "net-20310131.pth", *NO_HASHES, *one_file)
    for name in names:
        for owner in ("one", "two"):
            folder = tmp_path / owner / "net/resolve/main"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(owner)
        read = []
        for owner in ("one", "two", "one"):
            with fetched(f"hf://{owner}/net/{name}") as file:
                read.append(file.read_text())
        assert read == (["one"] * 3 if name in one_file else ["one", "two", "one"]), name
    assert len(server.asked) == 2 * len(names) - 2
    for address in (f"{server.url}/", f"{server.url}/net/.."):
        with (
            pytest.raises(UserError, match=f"^{address}: names no file; give the whole"),
            fetched(address),
        ):
            pass


def test_what_a_signed_address_has_in_its_query_is_sent_and_not_shown(tmp_path, server):
    path, query = hashed(tmp_path), "?X-Amz-Signature=1f2e"
    filled(f"{server.url}/{path.name}{query}")
    assert server.asked == [f"/{path.name}{query}"]
    damage(tmp_path / "cache/checkpoints" / path.name)
    for name in (path.name, "none.pth"):
        with pytest.raises(UserError, match=re.escape(f"{server.url}/{name}")) as error:
            filled(f"{server.url}/{name}{query}")
        assert "1f2e" not in str(error.value)


@pytest.fixture
def private_hub(tmp_path, monkeypatch) -> Iterator[list[tuple[str, str | None]]]:
    """A hub that knows one token and sends on to another server; (path, token) of each request.

    The second server has the bytes of every file. It is asked by /cdn, and by none else.
    """
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            token = self.headers.get("Authorization")
            asked.append((self.path, token))
            elsewhere = f"http://127.0.0.1:{cdn.server_port}/cdn"
            if self.path == "/cdn":
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"bytes")
                return
            self.send_response(302 if token == "Bearer hf_mine" else 401)
            # As for a model that has been renamed, first to another path of the hub.
            self.send_header("Location", elsewhere if self.path == "/renamed" else "/renamed")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            """Silence."""

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as hub,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as cdn,
    ):
        for httpd in (hub, cdn):
            threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        yield asked
        for httpd in (hub, cdn):
            httpd.shutdown()


@pytest.mark.parametrize("installed", [True, False])
def test_a_private_model_by_the_users_token(private_hub, monkeypatch, installed):
    """The token goes to the hub alone, not to where the hub sends on to."""
    if installed:
        pytest.importorskip("huggingface_hub")
    else:
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with fetched("hf://me/secret/net.bin") as file:
        assert file.read_bytes() == b"bytes"
    mine, path = "Bearer hf_mine", "/me/secret/resolve/main/net.bin"
    assert private_hub == [(path, mine), ("/renamed", mine), ("/cdn", None)]
    private_hub.clear()
    hub = os.environ["HF_ENDPOINT"]
    # An address that only looks like the hub's gets none, and a wrong one is refused.
    with pytest.raises(UserError, match="Unauthorized") as error, fetched(f"{hub}/other.bin"):
        pass
    assert "HF_TOKEN" not in str(error.value) and private_hub == [("/other.bin", None)]
    monkeypatch.setenv("HF_TOKEN", "hf_theirs")
    with (
        pytest.raises(UserError, match=r"Unauthorized.*HF_TOKEN$"),
        fetched("hf://me/secret/a.bin"),
    ):
        pass


def test_many_processes_fetch_once(tmp_path, server):
    path = hashed(tmp_path)

    def fetch(_: int) -> bytes:
        with fetched(f"{server.url}/{path.name}") as file:
            return file.read_bytes()

    with ThreadPoolExecutor(4) as threads:
        assert {*threads.map(fetch, range(4))} == {path.read_bytes()}
    assert len(server.asked) == 1


def test_the_same_checkpoint_is_the_same_file(tmp_path):
    """A library that writes its header in any order would give it another name each time."""
    names = set()
    for number in range(6):
        (tmp_path / str(number)).mkdir()
        names.add(hashed(tmp_path / str(number)).name)
    assert len(names) == 1
    assert read_content(tmp_path / "0" / names.pop())["meta"] == dict(net="fcn32s")
