"""What is kept while mmengine tests, by one process and by several."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine import processes
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel, BaseTTAModel
from report_samples import COUNT, NAMES, SIZE, Images, keep, kept_by, samples

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.error_kinds import error_kinds
from fcn_plugin.evaluation.scores import confusion_matrix, scores
from fcn_plugin.report import evaluation
from fcn_plugin.report.hook import EvaluationHook, ReportHook
from fcn_plugin.report.panels import load_labels


def kept(folder: Path, images: int = COUNT) -> tuple[list, evaluation.Evaluation, dict]:
    """Samples in FOLDER/data, what is kept of them in FOLDER/kept, and their scores."""
    items = samples(folder / "data", images, len(NAMES))
    scores = keep(EvaluationHook(folder / "kept"), Images(items, NAMES), items)
    return items, evaluation.load(folder / "kept"), scores


def test_one_matrix_and_a_score_of_each_image(tmp_path):
    items, found, _ = kept(tmp_path)
    matrices = [
        confusion_matrix(item.gt_sem_seg.data, item.pred_sem_seg.data, 3, 255)[:3, :3].numpy()
        for item in items
    ]
    assert (found.matrix == sum(matrices)).all() and found.matrix.dtype == np.int64
    for image, item, matrix in zip(found.images[:-1], items, matrices, strict=False):
        assert image.path == item.img_path
        assert image.mean_iu == scores(matrix).mean_iu
        assert image.pixel_accuracy == scores(matrix).pixel_accuracy
    assert found.images[-1].mean_iu is None  # all void
    assert found.dataset == "ShapesDataset, val.txt"
    truth, prediction, kinds = load_labels(found.panels, 2)
    labels = items[2].gt_sem_seg.data[0].numpy(), items[2].pred_sem_seg.data[0].numpy()
    assert (kinds == error_kinds(*labels, len(NAMES))).all() and kinds.max() > 1
    assert truth.shape == SIZE
    assert (truth == items[2].gt_sem_seg.data[0].numpy()).all()
    assert (prediction == items[2].pred_sem_seg.data[0].numpy()).all()


@pytest.mark.parametrize("count", [2, 3, COUNT])
def test_two_processes_keep_the_same(tmp_path, count):
    """Of the images and of the intervals, on each; also if each process counts one image only."""
    _, one, scores = kept(tmp_path, count)
    work = (2, str(tmp_path / "two"), str(tmp_path / "data"), count)
    both = processes.results(2, tmp_path / "results", kept_by, *work)
    assert both == [scores, scores] and scores["mIoU_low"] <= scores["mIoU"] <= scores["mIoU_high"]
    two = evaluation.load(tmp_path / "two")
    assert (one.images, one.matrix.tolist()) == (two.images, two.matrix.tolist())
    for name, counts in one.by_image.items():
        np.testing.assert_array_equal(counts, two.by_image[name])
    assert one.total.keys() >= {"confidence_by_class", "components"}
    assert all((counts == two.total[name]).all() for name, counts in one.total.items())
    assert one.intervals("image") == two.intervals("image")
    bounds = [100 * bound for bound in two.intervals("image").scores["mean_iu"]]
    assert bounds == [scores["mIoU_low"], scores["mIoU_high"]]
    here, there = ({f.name: f.read_bytes() for f in run.panels.iterdir()} for run in (one, two))
    assert here == there and len(here) == 2 * count


def test_a_second_test_leaves_nothing_of_the_first(tmp_path):
    kept(tmp_path)
    _, found, _ = kept(tmp_path, 2)
    assert len(found.images) == 2 and len(list(found.panels.iterdir())) == 4


@pytest.mark.parametrize("text", ["{", '{"format": 0}', '{"format": 1, "matrix": 1, "images": []}'])
def test_what_cannot_be_read_is_not_there(tmp_path, text):
    (tmp_path / evaluation.FILE).write_text(text)
    assert evaluation.load(tmp_path) is None


def test_labels_outside_the_classes_and_none_at_all_are_refused(tmp_path):
    items = samples(tmp_path / "data", 2, len(NAMES))
    hook, images = EvaluationHook(tmp_path / "kept"), Images(items, NAMES)
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=images),
        test_evaluator=SimpleNamespace(metrics=[]),
        model=None,
    )
    hook.before_test(runner)
    items[0].gt_sem_seg.data[0, 0, 0] = 3
    with pytest.raises(UserError, match=r"0\.png: 1 pixels of its label are neither"):
        hook.after_test_iter(runner, 0, None, items[:1])
    del items[1].gt_sem_seg
    with pytest.raises(UserError, match=r"1\.png: no label to score against"):
        hook.after_test_iter(runner, 1, None, items[1:])


class Network(BaseModel):
    def forward(self, inputs: object) -> None:
        raise NotImplementedError


class Averaging(BaseTTAModel):
    """Test-time augmentation."""

    def merge_preds(self, data_samples_list: list) -> list:
        raise NotImplementedError


def test_confidence_is_measured_unless_the_test_keeps_no_scores(tmp_path):
    """Also where the model is wrapped for several devices."""
    models = (Network(), True), (Averaging(Network()), False)
    wrapped = [(torch.nn.DataParallel(model), measured) for model, measured in models]
    for model, measured in (*models, *wrapped):
        hook, loader = EvaluationHook(tmp_path), SimpleNamespace(dataset=Images([], NAMES))
        evaluator = SimpleNamespace(metrics=[])
        hook.before_test(
            SimpleNamespace(test_dataloader=loader, test_evaluator=evaluator, model=model)
        )
        assert ("confidence" in hook.measures) == measured and "errors" in hook.measures


class Frames(BaseDataset):
    """Of one scene."""

    METAINFO = dict(classes=("a",))

    def load_data_list(self) -> list[dict]:
        return [dict(img_path=f"s_{number}.png") for number in range(3)]


def test_what_has_no_intervals_is_refused_before_scoring(tmp_path):
    with pytest.raises(UserError, match="ReportHook: interval must be one of"):
        ReportHook(str(tmp_path / "page.html"), interval="frame")
    hook = ReportHook(str(tmp_path / "page.html"), interval="scene")

    def begin(dataset: object) -> None:
        loader, evaluator = SimpleNamespace(dataset=dataset), SimpleNamespace(metrics=[])
        runner = SimpleNamespace(test_dataloader=loader, test_evaluator=evaluator, model=None)
        hook.before_test(runner)

    begin(Images([], NAMES))  # not mmengine's, so that its names are not known yet
    with pytest.raises(UserError, match="all other images are of the scene s,"):
        begin(Frames())
