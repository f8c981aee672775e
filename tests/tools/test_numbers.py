"""One data set whose config takes its classes in another order, through every tool.

CamVid without cars, its classes from last to first: what each tool writes is in CamVid's numbers.
"""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from PIL import Image
from prediction.trained import image
from report_samples import Page
from tools.running import REPOSITORY, ran, tool

from fcn_plugin.data.camvid import CLASSES as CAMVID

NAMES = [name for name in CAMVID if name != "car"][::-1]
NUMBERS = [list(CAMVID).index(name) for name in NAMES]
CONFIG = f"""
_base_ = "{REPOSITORY}/configs/fcn8s_vgg16_camvid.py"
model = dict(
    backbone=dict(depth=11, base_channels=2, fc_channels=8, init_cfg=None),
    decode_head=dict(in_channels=(8, 16, 8), num_classes=10),
)
test_pipeline = [
    dict(type="LoadCheckedImage"),
    dict(type="LoadCheckedLabel", num_classes=10),
    dict(type="PackSegInputs"),
]
test_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(metainfo=dict(classes={NAMES}), pipeline=test_pipeline),
)
custom_hooks = []
"""
THEIRS = """
_base_ = "camvid.py"
test_evaluator = dict(_delete_=True, type="IoUMetric", output_dir="theirs")
"""


def done(name: str, *options: object, folder: Path) -> str:
    run = ran(name, *options, folder=folder)
    return run.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder, chance = tmp_path_factory.mktemp("numbers"), np.random.default_rng(0)
    (folder / "camvid.py").write_text(CONFIG)
    (folder / "theirs.py").write_text(THEIRS)
    for i in range(3):
        image(folder / f"data/camvid/val/{i}.png", 60, 70, seed=i)
        label = folder / f"data/camvid/valannot/{i}.png"
        label.parent.mkdir(exist_ok=True)
        Image.fromarray(chance.integers(0, 12, (60, 70), dtype=np.uint8)).save(label)
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(folder / "camvid.py").model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    torch.save(dict(meta={}, state_dict=model.state_dict()), folder / "a.pth")
    outputs = ["--out", "out", "--submission", "out.zip", "--report", "r.html", "--show-dir", "s"]
    (folder / "said").write_text(done("test.py", "camvid.py", "a.pth", *outputs, folder=folder))
    return folder


def labels(folder: Path) -> dict[str, np.ndarray]:
    found = {file.stem: np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))}
    assert list(found) == ["0", "1", "2"]
    return found


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in other)


def test_score_gives_what_test_gave(project):
    said = re.search(r"Done: aAcc ([\d.]+)  mAcc ([\d.]+)  mIoU ([\d.]+)  fwIoU ([\d.]+)",
                     (project / "said").read_text())  # fmt: skip
    folders = ["--pred", "out", "--truth", "data/camvid/valannot"]
    lines = done("score.py", *folders, "--config", "camvid.py", "--json", "s.json", folder=project)
    assert re.findall(r"\(([\d.]+) %\)", lines) == list(said.groups())
    found = json.loads((project / "s.json").read_text())
    assert [row["label"] for row in found["classes"]] == NUMBERS
    assert [row["name"] for row in found["classes"]] == NAMES and found["ignore"] == [8, 11, 255]
    assert len({value for each in labels(project / "out").values() for value in each.flat}) > 2


def test_colours_are_those_of_the_classes(project):
    for file in (project / "out").iterdir():
        with Image.open(file) as picture:
            levels, there = picture.getpalette(), np.unique(np.asarray(picture)).tolist()
        for number in there:
            assert levels[3 * number : 3 * number + 3] == [*CAMVID.values()][number]


def test_mmsegs_metric_is_written_for_with_ours(project):
    said = done("test.py", "theirs.py", "a.pth", folder=project)
    assert "mIoU" in said
    assert same(labels(project / "theirs"), labels(project / "out"))


def test_the_submission(project):
    with zipfile.ZipFile(project / "out.zip") as archive:
        found = {
            name.removesuffix(".png"): np.asarray(Image.open(archive.open(name)))
            for name in archive.namelist()
        }
    assert same(found, labels(project / "out")) and len(found) == 3


def test_predictions_and_their_probabilities(project):
    options = ["data/camvid/val", "--out", "new", "--probabilities", "--device", "cpu"]
    done("predict.py", "camvid.py", "a.pth", *options, folder=project)
    found = labels(project / "new/labels")
    assert same(found, labels(project / "out"))
    for name, label in found.items():
        best = np.load(project / f"new/probabilities/{name}.npy").argmax(0)
        assert (np.array(NUMBERS)[best] == label).mean() > 0.99  # half precision has ties


def test_the_exported_file(project):
    images = ["--images", *(f"data/camvid/val/{i}.png" for i in range(3))]
    done("export_onnx.py", "camvid.py", "a.pth", "a.onnx", *images, folder=project)
    session = onnxruntime.InferenceSession(project / "a.onnx")
    for name, expected in labels(project / "out").items():
        pixels = np.asarray(Image.open(project / f"data/camvid/val/{name}.png"))
        (found,) = session.run(["labels"], {"image": pixels[None]})
        assert found.dtype == np.uint8 and (found[0] == expected).mean() > 0.999
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["label_names"]) == dict(zip(map(str, NUMBERS), NAMES, strict=True))
    assert json.loads(told["classes"]) == NAMES


def test_the_report(project):
    text = " ".join(Page((project / "r.html").read_text()).text.split())
    for number, name in zip(NUMBERS, NAMES, strict=True):
        assert f"{number} {name}" in text
    assert not re.search(rf"\b0 {NAMES[0]}", text)


def test_several_numberings_at_once_are_refused(project):
    (project / "both.py").write_text(
        '_base_ = "camvid.py"\n'
        "one = dict(_base_.val_dataloader.dataset, pipeline=_base_.test_pipeline)\n"
        "other = dict(one, metainfo=dict(classes=('car', 'sky')))\n"
        "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset',"
        " datasets=[one, other], ignore_keys=['classes', 'label_map', 'palette']))\n"
    )
    for name, options in (
        ("test.py", ["--out", "no"]),
        ("test.py", ["--show-dir", "no"]),
        ("export_onnx.py", ["no"]),
    ):
        run = tool(name, "both.py", "a.pth", *options, folder=project)
        assert run.returncode == 1 and not (project / "no").exists()
        assert "several ways" in run.stderr.splitlines()[-1] and "Traceback" not in run.stderr
