"""A checkpoint from a stranger ends every tool in one line, and the terminal obeys none of it."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from prediction.trained import CLASSES, image, trained
from tools.running import tool

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


DOORS = {
    "predict": "predict.py tiny.py {file} photo.png --out {out}",
    "test": "test.py tiny.py {file} --work-dir {out}",
    "export": "export_onnx.py tiny.py {file} {out}/x.onnx",
    "resume": "train.py tiny.py --resume {file} --work-dir {out}",
    "load": "train.py tiny.py --work-dir {out} --cfg-options load_from={file}",
}


class Attack:
    def __reduce__(self):
        return os.system, ("touch executed",)


def through(door: str, file: Path, folder: Path):
    out = file.parent / "out" / door
    return tool(DOORS[door].format(file=file, out=out), folder=folder)


NAN = torch.full((2, 3, 3, 3), float("nan"))
HOSTILE = {
    "NaN": (dict(state_dict={FIRST: NAN}), f"{FIRST} has NaN or inf"),
    "sparse": (dict(state_dict={FIRST: NAN.to_sparse()}), f"{FIRST} has the layout sparse"),
    "palette": (
        dict(meta=dict(dataset_meta=dict(classes=CLASSES, palette=np.ones(2)))),
        "meta.dataset_meta.palette is ndarray",
    ),
    "name": (dict(state_dict={ESCAPES: torch.zeros(1)}), "has control characters in the name"),
}


def refused(done, file: Path, words: str) -> None:
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {file}: ") and words in last, last
    assert not any(raw in done.stderr + done.stdout for raw in RAW)


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_one_line(folder, name):
    changes, words = HOSTILE[name]
    file = changed(folder, name, **changes)
    refused(through("predict", file, folder), file, words)


@pytest.mark.parametrize("door", DOORS)
def test_every_tool_refuses_it(folder, door):
    file = folder / "attack" / "iter_1.pth"
    file.parent.mkdir(exist_ok=True)
    torch.save(dict(state_dict=dict(weight=Attack())), file)
    refused(through(door, file, folder), file, "asks for posix.system, which may run code")
    assert not (folder / "executed").exists()


def test_reports_say_why_nothing_is_scored(folder):
    work_dir = changed(folder, "work", state_dict={FIRST: NAN}).parent
    done = tool("report.py", work_dir, folder=folder)
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
    file = changed(folder, "text", meta=meta)
    for door in ("predict", "load") if "net" in meta else ("predict",):
        done = through(door, file, folder)
        said = done.stdout + done.stderr
        assert "Traceback" not in said and "\\x1b" in said, said
        assert not any(raw in said for raw in RAW), said
