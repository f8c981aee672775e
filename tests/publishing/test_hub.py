"""Push and pull, with a stand-in of huggingface_hub, and with itself where it is installed."""

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from publishing.hubs import Api, Repositories, serving
from tools.running import tool

from fcn_plugin.errors import UserError
from fcn_plugin.publish import hub
from fcn_plugin.publish.hub import pull, push
from fcn_plugin.system.download import file_digests
from fcn_plugin.weights.safetensors_files import write_safetensors

REAL = pytest.mark.skipif(not find_spec("huggingface_hub"), reason="needs huggingface_hub")
REPO = "someone/net"


@pytest.fixture(params=["stand-in", pytest.param("huggingface_hub", marks=REAL)])
def repositories(request, monkeypatch) -> Iterator[Repositories]:
    """Those of the hub that ``push`` and ``pull`` reach."""
    repositories: Repositories = {}
    if request.param == "stand-in":
        stand_in = Api(repositories)
        monkeypatch.setattr(hub, "_api", lambda: stand_in)
        yield repositories
        return
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with serving(repositories) as address:
        api = huggingface_hub.HfApi(endpoint=address, token="hf_of_nobody")
        monkeypatch.setattr(hub, "_api", lambda: api)
        yield repositories


def published(folder: Path, number: float = 0.0) -> Path:
    """A published folder; the weights in it."""
    folder.mkdir()
    plain = folder / "net[1].safetensors"  # a pattern that its own name does not match
    write_safetensors(dict(state_dict={"w": torch.full((2,), number)}, meta={}), plain)
    for name in ("README.md", "config.py"):
        (folder / name).write_text(f"# {number}\n")
    (folder / "notes.txt").write_text("for me alone")
    digits = file_digests(plain, ["sha256"])["sha256"][:8]
    return plain.rename(folder / f"net[1]-{digits}.safetensors")


def test_what_is_pushed_is_pulled(tmp_path, repositories):
    first, second = published(tmp_path / "one"), published(tmp_path / "two", 1.0)
    for number, file in enumerate((first, second)):
        if number:
            message = re.escape(f"{REPO}: holds other weights, {first.name}; give a new name")
            with pytest.raises(UserError, match=message):
                push(file.parent, REPO)
            assert first.name in repositories[REPO] and file.name not in repositories[REPO]
        pushed = push(file.parent, REPO, replace=bool(number))
        assert pushed.address.endswith(REPO) and pushed.deleted == [first.name] * number
        names = {file.name, "README.md", "config.py"}
        assert repositories[REPO].keys() == {*names, ".gitattributes"}  # without the earlier one
        got = pull(REPO, tmp_path / f"pulled{number}")
        assert got.name == file.name and {path.name for path in got.parent.glob("*.*")} >= names
        for name in names:
            assert (got.parent / name).read_bytes() == (file.parent / name).read_bytes()


def test_what_does_not_belong_is_refused(tmp_path, repositories):
    file = published(tmp_path / "one")
    repositories["someone/other"] = {"model.safetensors": b"0", "README.md": b"theirs"}
    with pytest.raises(UserError, match=r"holds other files, e\.g\. model\.safetensors; give a"):
        push(file.parent, "someone/other")
    assert repositories["someone/other"]["README.md"] == b"theirs"
    with pytest.raises(UserError, match=r"someone/other: no config\.py, so not one published"):
        pull("someone/other", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match=r"someone/none cannot be pulled \(.*\); check the name"):
        pull("someone/none", tmp_path / "new")
    repositories["someone/other"] = {"parts/net-0123abcd.safetensors": b"0"}
    with pytest.raises(UserError, match=r"other files, e\.g\. parts/net-0123abcd"):
        push(file.parent, "someone/other")
    assert repositories["someone/other"].keys() == {"parts/net-0123abcd.safetensors"}
    with pytest.raises(UserError, match=r"2 files NAME-HASH\.safetensors, so not one"):
        (file.parent / "net-0123abcd.safetensors").touch()
        push(file.parent, REPO)


def test_private_weights_do_not_become_public(tmp_path, repositories):
    folder = published(tmp_path / "one").parent
    for _ in range(2):
        push(folder, "someone/secret", private=True)
    push(folder, REPO)
    other = published(tmp_path / "two", 1.0)
    with pytest.raises(UserError, match=f"^{REPO}: is public already; give a new name"):
        push(other.parent, REPO, private=True)
    assert other.name not in repositories[REPO]


def test_a_pull_replaces_nothing(tmp_path, repositories):
    push(published(tmp_path / "one").parent, REPO)
    taken = [tmp_path / "one", tmp_path / "home", tmp_path / "again"]
    (tmp_path / "home/.cache").mkdir(parents=True)  # as every home folder has
    (tmp_path / "home/config.py").write_text("mine")
    got = pull(REPO, tmp_path / "again")
    (got.parent / ".cache/huggingface").mkdir(parents=True, exist_ok=True)
    assert pull(REPO, tmp_path / "again") == got  # as after an interruption
    push(published(tmp_path / "two", 1.0).parent, REPO, replace=True)
    for folder in taken:
        before = {path: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
        with pytest.raises(UserError, match=f"^{folder}: is in use; give a new folder"):
            pull(REPO, folder)
        assert before == {p: p.read_bytes() for p in folder.glob("*.*") if p.is_file()}


@pytest.mark.parametrize("where", ["here", "there"])
def test_another_hash_than_the_names_is_refused(tmp_path, repositories, where):
    file = published(tmp_path / "one")
    if where == "here":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.raises(UserError, match=f"^{re.escape(str(file))}: damaged, or another file"):
            push(file.parent, REPO)
        assert not repositories
        return
    push(file.parent, REPO)
    repositories[REPO][file.name] = file.read_bytes()[:-1] + b"?"
    with pytest.raises(UserError, match=rf"new/{re.escape(file.name)}: damaged, or another file"):
        pull(REPO, tmp_path / "new")


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"run pip install 'fcn-plugin\[hub\]'"):
        push(tmp_path, REPO)


def test_as_a_user_does(tmp_path):
    done = tool(f"publish.py push one {REPO}", folder=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ") and "; " in done.stderr
