"""ConfusionMatrixMetric; any number of processes is in property/test_any_metric.py."""

import numpy as np
import pytest
import torch
from mmengine import dist
from mmengine.logging import MMLogger
from mmseg.registry import METRICS
from PIL import Image

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation import counting as module
from fcn_plugin.evaluation.measures import MEASURES, Measures
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

PALETTE = [[0, 0, 0], [10, 20, 30], [40, 50, 60]]


def sample(truth, prediction, name="x.jpg", **meta) -> dict:
    labels = dict(pred_sem_seg=prediction) | ({} if truth is None else dict(gt_sem_seg=truth))
    data = {key: dict(data=torch.as_tensor(label)[None]) for key, label in labels.items()}
    return dict(data, img_path=name, **meta)


def random_samples(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [
        sample(*torch.randint(0, 3, (2, 8, 9), generator=generator), name=f"{i}.jpg")
        for i in range(count)
    ]


def metric(samples: list[dict] = (), **settings) -> ConfusionMatrixMetric:
    made = METRICS.build(dict(type="ConfusionMatrixMetric", **settings))
    made.dataset_meta = dict(classes=("a", "b", "c"), palette=PALETTE)
    made.process({}, samples)
    return made


def test_scores_in_percent_unrounded_and_a_table_in_the_log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        given = [sample([[0, 0, 1, 255]], [[0, 1, 1, 2]])]
        scores = metric(given).evaluate(1)
    finally:
        logger.removeHandler(caplog.handler)
    assert set(scores) == {*("aAcc", "mAcc", "mIoU", "fwIoU"), *("mDice", "mPrecision", "mRecall")}
    assert scores["aAcc"] == pytest.approx(200 / 3, rel=1e-15)
    assert scores["mAcc"] == pytest.approx(75, rel=1e-15)
    assert scores["mIoU"] == scores["fwIoU"] == pytest.approx(50, rel=1e-15)
    assert scores["mDice"] == pytest.approx(200 / 3) and scores["mPrecision"] == 75
    assert scores["mRecall"] == scores["mAcc"]
    rows = [line.replace("|", " ").split() for line in caplog.text.splitlines() if "|" in line]
    assert rows == [
        ["class", "IU", "accuracy", "precision", "Dice", "pixels"],
        ["a", "50.00", "50.00", "100.00", "66.67", "66.67"],
        ["b", "50.00", "100.00", "50.00", "66.67", "33.33"],
        ["c", "-", "-", "-", "-", "0.00"],  # no pixels to judge by
        ["mean", "50.00", "75.00", "75.00", "66.67"],
    ]
    mits = metric(given, absent="zero", prefix="mit").evaluate(1)
    assert mits["mit/mIoU"] == pytest.approx(100 / 3)
    assert mits["mit/score"] == pytest.approx((mits["mit/aAcc"] + mits["mit/mIoU"]) / 2)


def test_a_task_is_scored_and_written_by_its_own_classes_and_numbers(tmp_path):
    """Beside the main labels, which say something else."""
    made = METRICS.build(dict(type="ConfusionMatrixMetric", task="geo", output_dir=str(tmp_path)))
    geo = dict(classes=("sky", "ground"), palette=PALETTE[1:], reduce_zero_label=True)
    made.dataset_meta = dict(classes=("a", "b", "c"), palette=PALETTE, tasks=dict(geo=geo))
    given = sample([[2, 2, 2, 2]], [[0, 0, 0, 0]], reduce_zero_label=False)
    of_geo = sample([[0, 0, 1, 255]], [[0, 1, 1, 0]])
    given |= dict(gt_geo_seg=of_geo["gt_sem_seg"], pred_geo_seg=of_geo["pred_sem_seg"])
    made.process({}, [given])
    scores = made.evaluate(1)
    assert scores["geo/mIoU"] == pytest.approx(50) and len(scores) == 7
    stored = Image.open(tmp_path / "x.png")
    np.testing.assert_array_equal(np.asarray(stored), [[1, 2, 2, 1]])
    assert stored.getpalette()[3:9] == [*PALETTE[1], *PALETTE[2]]
    for missing, message in (("pred", "predicts no such task"), ("gt", "x.jpg: no label to score")):
        made = METRICS.build(dict(type="ConfusionMatrixMetric", task="geo"))
        made.dataset_meta = dict(classes=("a", "b", "c"), palette=PALETTE, tasks=dict(geo=geo))
        with pytest.raises(UserError, match=message):
            made.process({}, [{k: v for k, v in given.items() if k != f"{missing}_geo_seg"}])
    made = METRICS.build(dict(type="ConfusionMatrixMetric", task="geo"))
    made.dataset_meta = dict(classes=("a", "b", "c"), tasks=dict(goe=geo))
    with pytest.raises(UserError, match="task 'geo': the data set has goe; did you mean 'goe'"):
        made.process({}, [given])


def test_a_process_without_samples_takes_part(monkeypatch):
    """It must answer the others' question, or they wait for it."""
    asked = []
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather", lambda x: asked.append(int(x)) or [x, 1 - x])
    monkeypatch.setattr(dist, "all_reduce", lambda matrix: asked.append(matrix.sum().item()))
    assert np.isnan(metric().evaluate(1)["mIoU"])
    assert asked == [0, 0]


@pytest.mark.parametrize(("dealt", "size"), [((4, 4), 5), ((3, 2), 4)])
def test_another_way_of_dealing_is_refused(monkeypatch, dealt, size):
    made = metric(random_samples(4))
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather", lambda x: [torch.tensor(n) for n in dealt])
    with pytest.raises(UserError, match="DefaultSampler"):
        made.evaluate(size)


def test_mmsegs_arguments_give_its_keys_and_values():
    """Of a class that is never right mmseg leaves the F-score out of the mean; ours is 0."""
    given = random_samples(4)
    for names in ("mIoU", ["mDice", "mFscore"], ["mIoU", "mDice", "mFscore"]):
        for settings in ({}, dict(beta=2), dict(nan_to_num=1)):
            arguments = dict(settings, iou_metrics=names)
            theirs = METRICS.build(dict(type="IoUMetric", **arguments))
            theirs.dataset_meta = dict(classes=("a", "b", "c", "absent"), palette=PALETTE)
            theirs.process({}, given)
            expected = theirs.evaluate(len(given))
            ours = metric((), **arguments)
            ours.dataset_meta = theirs.dataset_meta
            ours.process({}, given)
            assert ours.evaluate(len(given)) == pytest.approx(expected, abs=0.0051)  # rounded
    with pytest.raises(UserError, match="'mIou' does not exist"):
        metric(iou_metrics="mIou")
    with pytest.raises(UserError, match="nan_to_num or absent='zero'"):
        metric(nan_to_num=0, absent="zero")
    with pytest.raises(UserError, match=r"measure 'boundry'.*did you mean 'boundary'"):
        metric(measures="boundry")


@pytest.mark.parametrize("ratio", [0, -1, 1.5, float("nan"), float("inf"), "0.02"])
def test_a_boundary_region_is_a_fraction_of_the_image(ratio):
    with pytest.raises(UserError, match=r"boundary ratio .*: give a fraction up to 1"):
        metric(measures="all", boundary_ratio=ratio)


def test_nothing_is_left_of_a_test_that_failed_in_the_background(monkeypatch):
    given, made = random_samples(3), metric(measures="boundary")
    with monkeypatch.context() as patch:
        patch.setattr(Measures, "of_maps", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            made.process({}, given)
            made.evaluate(3)
    made.process({}, given)
    assert made.evaluate(3) == metric(given, measures="boundary").evaluate(3)


def test_measures_have_keys_and_each_class_a_score():
    given = random_samples(5)
    for one in given:
        one["seg_logits"] = dict(data=torch.eye(3)[one["pred_sem_seg"]["data"][0]].movedim(-1, 0))
    made = metric(given, measures=[*MEASURES], interval="image")
    keys, scores = made.keys, made.evaluate(5)
    assert keys == [*scores] and {"mBIoU_low", "tAcc32", "ECE_high", "eInside"} <= scores.keys()
    wrong = sum(scores[key] for key in ("eMissed", "eBorder", "eInvented", "eInside"))
    assert wrong == pytest.approx(100 - scores["aAcc"])
    assert scores["conf"] == pytest.approx(100 * np.e / (np.e + 2), abs=1e-5)
    assert scores["ECE"] == pytest.approx(abs(scores["conf"] - scores["aAcc"]), abs=1e-5)
    for heading, key in {"IU": "mIoU", "Dice": "mDice", "boundary IU": "mBIoU"}.items():
        assert list(made.class_scores[heading]) == ["a", "b", "c"]
        mean = sum(made.class_scores[heading].values()) / 3
        assert mean == pytest.approx(scores[key])


WRONG = [
    ([[0, 0]], [[0, 7]], "bad.jpg: 1 pixels are predicted outside"),
    ([[0, 0]], [[0]], r"bad.jpg: label is \(1, 2\), prediction \(1, 1\)"),
    (None, [[0]], r"bad.jpg: no label .*\(output_dir\)"),
]


@pytest.mark.parametrize(("truth", "prediction", "message"), WRONG)
def test_what_cannot_be_scored(truth, prediction, message):
    with pytest.raises(UserError, match=message):
        metric([sample(truth, prediction, "bad.jpg")])


def test_a_device_is_not_waited_for():
    """Whoever asks tensors of the meta device for a value, or a size by values, fails."""
    given = random_samples(module.CHECKED_TOGETHER_ELSEWHERE - 1)
    for one in given:
        one["pred_sem_seg"]["data"] = one["pred_sem_seg"]["data"].to("meta")
    made = metric(given, interval="image")
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        made.process({}, given[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_not_waited_for_and_counts_the_same():
    given, on_device = random_samples(5), random_samples(5)
    for one in on_device:
        for key in ("gt_sem_seg", "pred_sem_seg"):
            one[key]["data"] = one[key]["data"].cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = metric(on_device, interval="image")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.evaluate(5) == metric(given, interval="image").evaluate(5)


@pytest.mark.parametrize("number", [3, 6])
def test_images_that_wait_to_be_checked(monkeypatch, number):
    """The CPU in the place of a device: three images are checked at once, the rest in the end."""
    monkeypatch.setitem(module.CHECKED_TOGETHER, "cpu", 3)
    given = random_samples(7)
    given[number]["pred_sem_seg"]["data"][0, 0, :2] = 7
    made = metric(given[:number])
    with pytest.raises(UserError, match=f"{number}.jpg: 2 pixels are predicted outside the 3 cla"):
        for one in given[number:]:
            made.process({}, [one])
        made.evaluate(7)
    made.process({}, random_samples(7))
    assert made.evaluate(7) == metric(random_samples(7)).evaluate(7)


WRITTEN = [(None, {}, False), (None, dict(format_only=True), True), ([[0, 0]], {}, True)]


@pytest.mark.parametrize(("truth", "settings", "reduced"), WRITTEN)
def test_predictions_are_written_as_label_pngs(tmp_path, truth, settings, reduced):
    """In the data set's own numbers; without labels they are not scored."""
    one = sample(truth, [[1, 2]], "some/dir/name.jpg", reduce_zero_label=reduced)
    scores = metric([one], output_dir=tmp_path / "out", **settings).evaluate(1)
    assert bool(scores) == (truth is not None)
    image = Image.open(tmp_path / "out/name.png")
    assert image.mode == "P"
    assert np.asarray(image).tolist() == [[1 + reduced, 2 + reduced]]
    assert image.convert("RGB").getpixel((1, 0)) == tuple(PALETTE[2])


def test_one_prediction_does_not_overwrite_another(tmp_path):
    made = metric([sample([[0]], [[0]], "a/0.jpg")] * 2, output_dir=tmp_path)
    with pytest.raises(UserError, match=r"b/0.jpg: a/0.jpg has the same name"):
        made.process({}, [sample([[0]], [[0]], "b/0.jpg")])
