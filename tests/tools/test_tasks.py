"""Two labelings of one's own: trained, scored, written, predicted and exported by the tools."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from data.multi_task_sets import data_set, write_set
from PIL import Image
from tools.running import REPOSITORY, ran, tool

CONFIG = """
_base_ = "{repository}/configs/fcn8s_vgg16_shapes.py"
model = dict(
    data_preprocessor=dict(size=(32, 40)),
    backbone=dict(depth=11, base_channels=2, fc_channels=8),
    decode_head=dict(in_channels=(8, 16, 8), num_classes=5),
    task_heads=dict(
        geo=dict(
            type="SkipFusionHead", in_channels=(8, 16, 8), in_index=(0, 1, 2), num_classes=3
        ),
    ),
)
dataset = {dataset!r}
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(dataset, _delete_=True)
)
val_dataloader = dict(
    batch_size=1, num_workers=0, persistent_workers=False, dataset=dict(dataset, _delete_=True)
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="ConfusionMatrixMetric"),
    dict(type="ConfusionMatrixMetric", task="geo"),
]
test_evaluator = val_evaluator
flip = [
    dict(type="FastRandomFlip", prob=0.0, direction="horizontal"),
    dict(type="FastRandomFlip", prob=1.0, direction="horizontal"),
]
load, *labels, pack = dataset["pipeline"]
tta_pipeline = [
    load,
    dict(type="TestTimeAug", transforms=[flip, *([label] for label in labels), [pack]]),
]
train_cfg = dict(max_iters=30, val_interval=30)
param_scheduler = None
optim_wrapper = dict(optimizer=dict(lr=0.01))
default_hooks = dict(checkpoint=dict(interval=30))
"""
SCORES = ("aAcc", "mAcc", "mIoU", "fwIoU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With a config and a trained network in ``work``, and the log of the training in ``log``."""
    folder = tmp_path_factory.mktemp("project")
    write_set(folder / "data", count=4)
    text = CONFIG.format(repository=REPOSITORY, dataset=data_set("data"))
    (folder / "two.py").write_text(text)
    done = ran("train.py two.py --work-dir work", folder=folder)
    (folder / "log").write_text(done.stdout)
    return folder


def scores(text: str, prefix: str = "") -> list[float]:
    """The last ones."""
    return [float(re.findall(rf" {prefix}{score}:? +([\d.]+)", text)[-1]) for score in SCORES]


def pixels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(folder / f"{index}.png")) for index in range(4)]


def test_both_tasks_are_learned_scored_and_written(folder):
    """Their labels in the numbers of their own files, on which ``score`` finds the same scores."""
    trained = (folder / "log").read_text()
    file = next((folder / "work").glob("*/vis_data/scalars.json")).read_text()
    assert "geo.loss_ce" in file and '"geo/mIoU"' in file
    tested = ran("test.py two.py work --out out", folder=folder).stdout
    for prefix in ("", "geo/"):
        assert scores(tested, prefix) == pytest.approx(scores(trained, prefix), abs=0.06)
    assert scores(tested, "geo/") != scores(tested)
    values = [np.unique(pixels(folder / "out" / name)).tolist() for name in ("", "geo")]
    assert set(values[0]) <= {0, 1, 2, 3, 4} and set(values[1]) <= {1, 2, 3}
    assert min(map(len, values)) > 1
    for options, prefix in (("", ""), ("--task geo", "geo/")):
        where = f"--pred out/{prefix} --truth data/{prefix or 'labels'}"
        ran(f"score.py {where} --config two.py {options} --json s.json", folder=folder)
        found = json.loads((folder / "s.json").read_text())
        assert 100 * found["mean_iu"] == pytest.approx(scores(tested, prefix)[2], abs=0.06)
        assert "".join(row["name"] for row in found["classes"]) == ("xyz" if options else "abcde")


def test_either_task_is_predicted(folder):
    ran("test.py two.py work --out out", folder=folder)
    for options, written in (("", "out"), ("--task geo", "out/geo")):
        target = f"predictions{len(options)}"
        command = f"predict.py two.py work data/images --out {target} --no-overlays {options}"
        ran(command, folder=folder)
        for found, expected in zip(
            pixels(folder / target / "labels"), pixels(folder / written), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    run = tool("predict.py two.py work data/images --out no --task goe", folder=folder)
    assert run.returncode == 1 and "--task goe: the network has no such task; did you" in run.stderr


def test_a_page_and_views_of_both_tasks(folder):
    """The page is of the main task; several views are averaged for each."""
    ran("test.py two.py work --report page.html", folder=folder)
    assert "mean IU" in (folder / "page.html").read_text()
    tested = ran("test.py two.py work --tta", folder=folder).stdout
    assert scores(tested, "geo/") and scores(tested)


def test_a_task_that_the_data_lack_is_named_before_the_first_iteration(folder):
    setting = "model.task_heads.geo.num_classes=4"
    run = tool(f"train.py two.py --work-dir no --cfg-options {setting}", folder=folder)
    assert run.returncode == 1 and "model.task_heads.geo scores 4; set" in run.stderr
