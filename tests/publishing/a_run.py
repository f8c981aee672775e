"""A work dir as training, testing and reporting leave it, of a tiny network with random weights."""

import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from prediction.trained import CLASSES, weights_for
from tools.running import config

from fcn_plugin.evaluation.scores import class_counts
from fcn_plugin.report.evaluation import Evaluation, ScoredImage, save, sha256

SESSION, TEST = "20310101_000000", "20310102_000000"
HOME = "/home/someone/of/this/machine"  # a folder that nobody else has
VALIDATED = dict(aAcc=80.0, mAcc=60.0, mIoU=50.0, fwIoU=70.0)
TESTED = dict(aAcc=81.0, mAcc=61.0, mIoU=51.0, fwIoU=71.0, mIoU_low=48.5, mIoU_high=52.5)
LOG = """2031/01/01 00:00:00 - mmengine - INFO -
    PyTorch: 2.13.0
2031/01/01 00:50:00 - mmengine - INFO - Iter(val) [6/7]    mIoU: 3.0
2031/01/01 00:57:00 - mmengine - INFO - Iter(val) [7/7]    mIoU: 5.0
"""
EXTRA = f"""
load_from = "{HOME}/start.pth"
val_dataloader.update(batch_size=1, dataset=dict(data_root="{HOME}/shapes"))  # to test on, too
splits = dict(hidden=dict(ann_file="ImageSets/hidden.txt"))
"""


def work_dir(folder: Path) -> Path:
    """The work dir of a run that has been validated, tested on another split, and reported on."""
    file = config(folder, EXTRA)
    cfg = Config.fromfile(file)
    run = folder / "run"
    checkpoint = run / "best_mIoU_iter_4.pth"
    session(run / SESSION, cfg)
    content = torch.load(weights_for(file), weights_only=True)
    content["meta"] = dict(
        iter=4,
        epoch=0,
        net="fcn8s",
        padding="same",
        dataset_meta=dict(
            classes=CLASSES,
            palette=[[9 * i] * 3 for i in range(5)],
            label_map={i: i for i in range(5)},
        ),
        input=dict(order="RGB", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        time="20310101_000100",
    )
    content["optimizer"] = {"state": {0: {"exp_avg": torch.ones(1000)}}, "param_groups": []}
    torch.save(content, checkpoint)
    hidden = cfg.copy()
    hidden.load_from = f"elsewhere/{checkpoint.name}"
    hidden.test_dataloader.dataset.ann_file = "ImageSets/hidden.txt"
    session(run / TEST, hidden)
    (run / TEST / f"{TEST}.json").write_text(json.dumps(TESTED | dict(time=0.1)))
    (run / TEST / "vis_data" / "scalars.json").unlink()  # of trainings alone
    save(evaluation(run / "evaluation", sha256(checkpoint)))
    return run


def session(folder: Path, cfg: Config) -> None:
    (folder / "vis_data").mkdir(parents=True)
    cfg.dump(folder / "vis_data" / "config.py")
    entries = (dict(loss=1.0, lr=0.1, step=4), dict(VALIDATED, step=4))
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "vis_data" / "scalars.json").write_text(lines)
    (folder / f"{folder.name}.log").write_text(LOG)


def evaluation(folder: Path, digest: str) -> Evaluation:
    """Of three images; a star is hardly ever found, and there is no triangle."""
    matrix = np.diag([800, 50, 50, 0, 1])
    matrix[4, 0] = 99
    return Evaluation(
        dataset=f"BaseSegDataset in {HOME}/shapes, val",
        classes=CLASSES,
        palette=[[9 * i] * 3 for i in range(5)],
        numbers=tuple(range(5)),
        absent="skip",
        total=dict(matrix=matrix, regions=class_counts(matrix)),
        by_image=dict(regions=np.stack([class_counts(matrix)] * 3)),
        ratio=0.02,
        images=[ScoredImage(f"{i}.png", 0.5, 0.5) for i in range(3)],
        sha256=digest,
        facts=dict(date="2031-01-03 00:00"),
        folder=folder,
    )
