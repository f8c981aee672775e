"""A checkpoint from a stranger ends every tool in one line, and the terminal obeys none of it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from prediction.trained import CLASSES, image, trained
from tools.running import Fork
from weights.constructor_attacks import ARGUMENTS, ND, called, file_of

from fcn_plugin.prepare.shapes import write_shapes

ESCAPES = "x\x1b]0;x\x07\x1b[31m\nFAKE\r\u202e"
RAW = ("\x1b]0;x", "\x07", "\x1b[31m", "\u202e", "\r", "\nFAKE")
FIRST = "backbone.stages.0.conv1_1.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_shapes(folder / "data/shapes", 4, 4, seed=0)
    trained(folder)
    image(folder / "photo.png", 32, 32)
    return folder


def changed(folder: Path, name: str, **changes) -> Path:
    """The sound checkpoint of a run, with other weights or meta data."""
    content = torch.load(folder / "weights.pth", weights_only=True)
    content["meta"] |= dict(iter=1, epoch=0)
    for where, new in changes.items():
        content[where].update(new)
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    content |= dict(message_hub=hub, optimizer=dict(state={}, param_groups=[]))
    path = folder / name / "iter_1.pth"
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    (path.parent / "tiny.py").write_text((folder / "tiny.py").read_text())
    return path


def doors(path: Path, name: str) -> dict[str, tuple]:
    out = path.parent / "out"
    return {
        "test": ("test.py", "tiny.py", path, "--work-dir", out / "test"),
        "predict": ("predict.py", "tiny.py", path, "photo.png", "--out", out / "predict"),
        "export": ("export_onnx.py", "tiny.py", path, out / "x.onnx"),
        "resume": ("train.py", "tiny.py", "--resume", path, "--work-dir", out / "resume"),
        "load": (
            *("train.py", "tiny.py", "--work-dir", out / "load"),
            *("--cfg-options", f"load_from={path}"),
        ),
    }


def ended(folder: Path, command: tuple):
    with Fork(*command, folder=folder) as fork:
        return fork.finished()


def attack(folder: Path) -> Path:
    path = folder / "attack" / "iter_1.pth"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(file_of(called(ND, ARGUMENTS["objects"]), "mean"))
    return path


HOSTILE = {
    "array": (attack, "asks for numpy.ndarray"),
    "NaN": (
        lambda folder: changed(
            folder, "nan", state_dict={FIRST: torch.full((2, 3, 3, 3), float("nan"))}
        ),
        f"{FIRST} has NaN or inf",
    ),
    "sparse": (
        lambda folder: changed(
            folder, "sparse", state_dict={FIRST: torch.ones(2, 3, 3, 3).to_sparse()}
        ),
        f"{FIRST} has the layout sparse",
    ),
    "palette": (
        lambda folder: changed(
            folder, "palette", meta=dict(dataset_meta=dict(classes=CLASSES, palette=np.ones(2)))
        ),
        "meta.dataset_meta.palette is ndarray",
    ),
    "name": (
        lambda folder: changed(folder, "name", state_dict={ESCAPES: torch.zeros(1)}),
        "has control characters in the name",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_one_line_by_every_tool(folder, name):
    make, words = HOSTILE[name]
    path = make(folder)
    commands = doors(path, name)
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda command: ended(folder, command), commands.values())
        for door, done in zip(commands, results, strict=True):
            assert done.returncode == 1, (door, done)
            assert "Traceback" not in done.stderr, (door, done.stderr)
            last = done.stderr.splitlines()[-1]
            assert last.startswith(f"error: {path}: ") and words in last, (door, last)
            assert not any(raw in done.stderr + done.stdout for raw in RAW), door


def test_reports_say_why_nothing_is_scored(folder):
    work_dir = changed(folder, "work", state_dict={FIRST: torch.full((2, 3, 3, 3), float("nan"))})
    done = ended(folder, ("report.py", work_dir.parent))
    assert "Traceback" not in done.stderr and done.returncode in (0, 1)
    assert f"{FIRST} has NaN or inf" in done.stderr


@pytest.mark.parametrize(
    "meta",
    [
        dict(net=ESCAPES),
        dict(padding=ESCAPES),
        dict(padding="reference", made_for=ESCAPES),
        dict(dataset_meta=dict(classes=[f"{ESCAPES}{i}" for i in range(5)], palette=None)),
    ],
    ids=["net", "padding", "made_for", "classes"],
)
def test_the_terminal_obeys_no_text_of_it(folder, meta):
    path = changed(folder, "text", meta=meta)
    commands = doors(path, "text")
    for door in ("predict", "load") if "net" in meta else ("predict",):
        done = ended(folder, commands[door])
        said = done.stdout + done.stderr
        assert "Traceback" not in said and "\\x1b" in said, said
        assert not any(raw in said for raw in RAW), said
