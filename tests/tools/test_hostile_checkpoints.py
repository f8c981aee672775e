"""A checkpoint from a stranger ends every tool in one line, and the terminal obeys none of it."""

import os
from pathlib import Path

import pytest
import torch
from prediction.trained import image, trained
from tools.running import tool

from fcn_plugin.prepare.shapes import write_shapes

ESCAPES = "x\x1b]0;x\x07\x1b[31m\nFAKE\r\u202e"
RAW = ("\x1b]0;x", "\x07", "\x1b[31m", "\u202e", "\r", "\nFAKE")
FIRST = "backbone.stages.0.conv1_1.weight"
DOORS = {
    "predict": "predict.py tiny.py {file} photo.png --out {out}",
    "test": "test.py tiny.py {file} --work-dir {out}",
    "export": "export_onnx.py tiny.py {file} {out}/x.onnx",
    "resume": "train.py tiny.py --resume {file} --work-dir {out}",
    "load": "train.py tiny.py --work-dir {out} --cfg-options load_from={file}",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_shapes(folder / "data/shapes", 4, 4, seed=0)
    trained(folder)
    image(folder / "photo.png", 32, 32)
    return folder


def changed(folder: Path, state: dict, meta: dict) -> Path:
    """The sound checkpoint of a run, with other weights or meta data."""
    content = torch.load(folder / "weights.pth", weights_only=True)
    content["state_dict"].update(state)
    content["meta"].update(meta, iter=1, epoch=0)
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    content |= dict(message_hub=hub, optimizer=dict(state={}, param_groups=[]))
    path = folder / "work/iter_1.pth"
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    (path.parent / "tiny.py").write_text((folder / "tiny.py").read_text())
    return path


def through(door: str, file: Path, folder: Path):
    return tool(DOORS[door].format(file=file, out=folder / "out" / door), folder=folder)


class Attack:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("door", DOORS)
def test_every_tool_refuses_it(folder, door):
    file = folder / "attack.pth"
    torch.save(dict(state_dict=dict(weight=Attack())), file)
    done = through(door, file, folder)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {file}: asks for posix.system, which may run code")
    assert not (folder / "executed").exists()


def test_reports_say_why_nothing_is_scored(folder):
    file = changed(folder, {FIRST: torch.full((2, 3, 3, 3), float("nan"))}, {})
    done = tool("report.py", file.parent, folder=folder)
    assert "Traceback" not in done.stderr and done.returncode in (0, 1)
    assert f"{FIRST} has NaN or inf" in done.stderr


CLASSES = dict(classes=[f"{ESCAPES}{i}" for i in range(5)], palette=None)
TEXTS = {
    "weight": ({ESCAPES: torch.zeros(1)}, {}),
    "net": ({}, dict(net=ESCAPES)),
    "padding": ({}, dict(padding=ESCAPES)),
    "made_for": ({}, dict(padding="reference", made_for=ESCAPES)),
    "classes": ({}, dict(dataset_meta=CLASSES)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_terminal_obeys_no_text_of_it(folder, name):
    file = changed(folder, *TEXTS[name])
    for door in ("predict", "load") if name == "net" else ("predict",):
        done = through(door, file, folder)
        said = done.stdout + done.stderr
        assert "Traceback" not in said and "\\x1b" in said, said
        assert not any(raw in said for raw in RAW), said
