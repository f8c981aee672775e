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


CLASSES = dict(classes=[f"{ESCAPES}{i}" for i in range(5)], palette=None)
TEXTS: dict[str, tuple[str, dict, dict]] = {
    "weight": ("predict", {ESCAPES: torch.zeros(1)}, {}),
    "net": ("load", {}, dict(net=ESCAPES)),
    "made_for": ("predict", {}, dict(padding="reference", made_for=ESCAPES)),
    "classes": ("predict", {}, dict(dataset_meta=CLASSES)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_terminal_obeys_no_text_of_it(folder, name):
    door, state, meta = TEXTS[name]
    content = torch.load(folder / "weights.pth", weights_only=True)
    content["state_dict"].update(state)
    content["meta"].update(meta)
    torch.save(content, folder / "changed.pth")
    done = through(door, folder / "changed.pth", folder)
    said = done.stdout + done.stderr
    assert "Traceback" not in said and "\\x1b" in said, said
    assert not any(raw in said for raw in RAW), said
