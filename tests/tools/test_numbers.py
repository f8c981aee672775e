"""One data set whose config takes its classes in another order, through every tool.

CamVid without cars, its classes from last to first: what each tool writes is in CamVid's numbers.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from prediction.trained import image, weights_for
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


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder, chance = tmp_path_factory.mktemp("numbers"), np.random.default_rng(0)
    (folder / "data/camvid/valannot").mkdir(parents=True)
    for i in range(3):
        image(folder / f"data/camvid/val/{i}.png", 60, 70, seed=i)
        label = Image.fromarray(chance.integers(0, 12, (60, 70), dtype=np.uint8))
        label.save(folder / f"data/camvid/valannot/{i}.png")
    (folder / "tiny.py").write_text(CONFIG)
    weights_for(folder / "tiny.py")
    outputs = "--out out --submission out.zip --report r.html"
    run = ran(f"test.py tiny.py weights.pth {outputs}", folder=folder)
    (folder / "said").write_text(run.stdout)
    return folder


def labels(folder: Path) -> dict[str, list]:
    files = sorted(folder.glob("*.png"))
    return {file.stem: np.asarray(Image.open(file)).tolist() for file in files}


def test_what_a_test_writes_and_what_score_makes_of_it(project):
    said = (project / "said").read_text().rpartition("Done: ")[2]
    options = "--pred out --truth data/camvid/valannot --config tiny.py --json s.json"
    run = ran(f"score.py {options}", folder=project)
    assert re.findall(r"\(([\d.]+) %\)", run.stdout) == re.findall(r"\w+ ([\d.]+)", said)[:4]
    found = json.loads((project / "s.json").read_text())
    assert [(row["label"], row["name"]) for row in found["classes"]] == [
        *zip(NUMBERS, NAMES, strict=True)
    ]
    assert found["ignore"] == [8, 11, 255]
    shutil.unpack_archive(project / "out.zip", project / "submitted")
    written = labels(project / "out")
    assert labels(project / "submitted") == written and list(written) == ["0", "1", "2"]
    assert len({value for rows in written.values() for row in rows for value in row}) > 2
    text = " ".join(Page((project / "r.html").read_text()).text.split())
    assert all(f"{number} {name}" in text for number, name in zip(NUMBERS, NAMES, strict=True))
    assert not re.search(rf"\b0 {NAMES[0]}", text)


def test_predictions_and_their_probabilities(project):
    options = "data/camvid/val --out new --probabilities --device cpu"
    ran(f"predict.py tiny.py weights.pth {options}", folder=project)
    assert labels(project / "new/labels") == labels(project / "out")
    for name, rows in labels(project / "out").items():
        best = np.load(project / f"new/probabilities/{name}.npy").argmax(0)
        assert (np.array(NUMBERS)[best] == rows).mean() > 0.99  # half precision has ties


def test_the_exported_file(project):
    ran("export_onnx.py tiny.py weights.pth a.onnx", folder=project)
    session = onnxruntime.InferenceSession(project / "a.onnx")
    for name, expected in labels(project / "out").items():
        pixels = np.asarray(Image.open(project / f"data/camvid/val/{name}.png"))
        (found,) = session.run(["labels"], {"image": pixels[None]})
        assert found.dtype == np.uint8 and (found[0] == expected).mean() > 0.999
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["label_names"]) == dict(zip(map(str, NUMBERS), NAMES, strict=True))


def test_several_numberings_at_once_are_refused(project):
    (project / "both.py").write_text(
        '_base_ = "tiny.py"\n'
        "one = dict(_base_.val_dataloader.dataset, pipeline=_base_.test_pipeline)\n"
        "other = dict(one, metainfo=dict(classes=('car', 'sky')))\n"
        "test_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset',"
        " datasets=[one, other], ignore_keys=['classes', 'label_map', 'palette']))\n"
    )
    for command in (
        "test.py both.py weights.pth --out no",
        "test.py both.py weights.pth --show-dir no",
        "export_onnx.py both.py weights.pth no",
    ):
        run = tool(command, folder=project)
        assert run.returncode == 1 and not (project / "no").exists()
        assert "several ways" in run.stderr.splitlines()[-1] and "Traceback" not in run.stderr
