"""Tasks on which model, data and metrics disagree are named before the first iteration."""

from types import SimpleNamespace

import pytest
from data.multi_task_sets import AUGMENTATION, GEO, data_set, load, write_set
from mmcv.transforms import Pad, RandomFlip
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from models.small import segmentor

from fcn_plugin.checks.data import check_files, check_first_sample, check_labels
from fcn_plugin.checks.hook import _check_parts
from fcn_plugin.checks.ignored import unify_ignored
from fcn_plugin.checks.tasks import check_metrics, check_training_labels
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

HEAD = dict(type="SkipFusionHead", in_channels=(16, 32, 8), in_index=(0, 1, 2), num_classes=GEO)


@pytest.fixture
def folder(tmp_path):
    init_default_scope("mmseg")
    write_set(tmp_path)
    return tmp_path


def check(folder, steps=(), geo: dict | None = None, task: str = "geo", **settings) -> None:
    """Every check of a training data set."""
    model = segmentor(task_heads={task: HEAD | (geo or {})})
    parts = [DATASETS.build(data_set(folder, steps, **settings))]
    _check_parts("train_dataloader", model, parts)
    check_training_labels(model, parts)


def test_what_fits_passes(folder):
    check(folder, AUGMENTATION)
    # Each label loader with the classes of its task; and the file of a task is looked for.
    (folder / "geo/1.png").unlink()
    with pytest.raises(UserError, match=r"geo/1.png: no such label, though .*1.jpg is there"):
        check(folder)


def test_what_does_not_fit_is_named(folder):
    described = data_set(folder)["metainfo"]
    plain = dict(type="BaseSegDataset", data_prefix=dict(img_path="images", seg_map_path="labels"))
    without = data_set(folder)["pipeline"]
    del without[2]
    unpacked = [*data_set(folder)["pipeline"][:-1], dict(type="PackSegInputs")]
    wrong = [
        (dict(geo=dict(num_classes=4)), "has 3 classes, but model.task_heads.geo scores 4; set"),
        (dict(task="goe"), "task_heads.goe: MultiTaskDataset has no task 'goe'"),
        (plain | dict(metainfo=described | dict(tasks={})), "BaseSegDataset has no task 'geo'"),
        (dict(pipeline=without), "task_heads.geo: no label gt_geo_seg comes out .*task='geo'"),
        (dict(pipeline=unpacked), "task_heads.geo: no label gt_geo_seg .* pack it by FastPack"),
        (dict(steps=[dict(type=RandomFlip, prob=0.3)]), "RandomFlip .* not gt_geo_seg in the same"),
        (dict(steps=[dict(type=Pad, size=(50, 50))]), "Pad in .* FastRandomFlip, FastRandomCrop"),
    ]
    for settings, message in wrong:
        with pytest.raises(UserError, match=message):
            check(folder, **settings)
    loader = data_set(folder)["pipeline"]
    loader[2] = dict(load("geo"), num_classes=7)
    with pytest.raises(UserError, match=r"has 3 classes, but LoadCheckedLabel .* allows 7"):
        check(folder, pipeline=loader)


def test_metrics_score_tasks_that_there_are(folder):
    model, metric = segmentor(task_heads=dict(geo=HEAD)), ConfusionMatrixMetric(task="geo")
    check_metrics(model, [metric, ConfusionMatrixMetric()])
    with pytest.raises(UserError, match=r"ConfusionMatrixMetric\(task='geo'\): the model has no"):
        check_metrics(segmentor(), [metric])
    pipeline = data_set(folder)["pipeline"]
    scored = DATASETS.build(data_set(folder, pipeline=pipeline))
    check_first_sample("val_dataloader", scored, [metric])
    del pipeline[2]
    with pytest.raises(UserError, match=r"0.jpg: no label of the task 'geo', which is scored"):
        check_first_sample("v", DATASETS.build(data_set(folder, pipeline=pipeline)), [metric])


def test_classes_are_looked_for_in_the_main_labels(folder):
    said: list[str] = []
    dataset = DATASETS.build(data_set(folder))
    logger = SimpleNamespace(info=said.append, warning=said.append)
    check_labels([dataset], logger)
    check_files(dataset)
    assert not said


def test_all_heads_ignore_the_same_label():
    cfg = Config(dict(model=dict(type="FCNSegmentor", task_heads=dict(geo=dict(HEAD)))))
    cfg.train_dataloader = dict(dataset=dict(pipeline=[load("geo")]))
    cfg.model.task_heads.geo.ignore_index = 3
    unify_ignored(cfg)
    assert cfg.train_dataloader.dataset.pipeline[0].ignore_index == 3
