import numpy as np
import pytest
import torch
from mmengine import dist
from mmseg.registry import METRICS
from PIL import Image

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation import metric as module
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

CLASSES = ("a", "b", "c")
PALETTE = [[0, 0, 0], [10, 20, 30], [40, 50, 60]]


def sample(truth, prediction, name="x.jpg", **meta) -> dict:
    return dict(
        gt_sem_seg=dict(data=torch.as_tensor(truth)[None]),
        pred_sem_seg=dict(data=torch.as_tensor(prediction)[None]),
        img_path=name,
        **meta,
    )


def random_samples(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [
        sample(*torch.randint(0, 3, (2, 8, 9), generator=generator), name=f"{i}.jpg")
        for i in range(count)
    ]


def metric(**settings) -> ConfusionMatrixMetric:
    made = METRICS.build(dict(type="ConfusionMatrixMetric", **settings))
    made.dataset_meta = dict(classes=CLASSES, palette=PALETTE)
    return made


def test_scores_in_percent_unrounded():
    made = metric()
    made.process({}, [sample([[0, 0, 1, 255]], [[0, 1, 1, 2]])])
    scores = made.evaluate(1)
    assert set(scores) == {"aAcc", "mAcc", "mIoU", "fwIoU"}
    assert scores["aAcc"] == pytest.approx(200 / 3, rel=1e-15)
    assert scores["mAcc"] == pytest.approx(75, rel=1e-15)
    assert scores["mIoU"] == pytest.approx(50, rel=1e-15)


def test_mits_score():
    made = metric(absent="zero", prefix="mit")
    made.process({}, [sample([[0, 0, 1, 255]], [[0, 1, 1, 2]])])
    scores = made.evaluate(1)
    assert scores["mit/mIoU"] == pytest.approx(100 / 3)
    assert scores["mit/score"] == pytest.approx((scores["mit/aAcc"] + scores["mit/mIoU"]) / 2)


def test_a_second_evaluation_starts_anew():
    made = metric()
    made.process({}, random_samples(3))
    first = made.evaluate(3)
    made.process({}, random_samples(3))
    assert made.evaluate(3) == first


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_repeated_samples_count_once(monkeypatch, world, count):
    """Samples dealt out as MMEngine's sampler does, the last round filled from the start."""
    samples = random_samples(count)
    whole = metric()
    whole.process({}, samples)
    expected = whole.evaluate(count)

    rounds = -(-count // world)
    dealt = [samples[i % count] for i in range(rounds * world)]
    ranks = [metric() for _ in range(world)]
    for rank, made in enumerate(ranks):
        made.process({}, dealt[rank::world])
    monkeypatch.setattr(dist, "get_world_size", lambda: world)
    monkeypatch.setattr(dist, "all_gather", lambda x: [x] * world)
    parts = []
    monkeypatch.setattr(dist, "all_reduce", lambda matrix: parts.append(matrix.clone()))
    for rank, made in enumerate(ranks):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        made.evaluate(count)
    total = sum(parts)[:-1, :-1].numpy()
    assert total.sum() == count * 8 * 9
    assert whole.compute_metrics([total]) == expected


def test_a_process_without_samples_takes_part(monkeypatch):
    """It must answer the others' question, or they wait for it."""
    asked = []
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather", lambda x: asked.append(int(x)) or [x, 1 - x])
    monkeypatch.setattr(dist, "all_reduce", lambda matrix: asked.append(matrix.sum().item()))
    assert np.isnan(metric().evaluate(1)["mIoU"])
    assert asked == [0, 0]


def test_another_way_of_dealing_is_refused(monkeypatch):
    made = metric()
    made.process({}, random_samples(4))
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather", lambda x: [x, x])
    with pytest.raises(UserError, match="DefaultSampler"):
        made.evaluate(5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (sample([[0, 7]], [[0, 0]], "bad.jpg"), "bad.jpg: 1 pixels of its label"),
        (sample([[0, 0]], [[0, 7]], "bad.jpg"), "bad.jpg: 1 pixels are predicted outside"),
        (sample([[0, 0]], [[0]], "bad.jpg"), r"bad.jpg: label is \(1, 2\), prediction \(1, 1\)"),
        (
            {k: v for k, v in sample([[0]], [[0]], "bad.jpg").items() if k != "gt_sem_seg"},
            "no label",
        ),
    ],
)
def test_what_cannot_be_scored(wrong, message):
    with pytest.raises(UserError, match=message):
        metric().process({}, [wrong])


# --- what is not looked at before it has to be ----------------------------------------------------


def test_a_device_is_not_waited_for():
    """Tensors of the meta device have no values: whoever asks for one, or for a size that depends
    on values, fails."""
    made = metric()
    given = random_samples(module.CHECKED_TOGETHER_ELSEWHERE - 1)
    for one in given:
        one["pred_sem_seg"]["data"] = one["pred_sem_seg"]["data"].to("meta")
    made.process({}, given)
    assert made._counted.device.type == "meta"
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        made.process({}, given[:1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_is_not_waited_for_and_counts_the_same():
    given = random_samples(5)
    expected = metric()
    expected.process({}, given)
    made = metric()
    on_device = [
        {k: dict(data=v["data"].cuda()) if isinstance(v, dict) else v for k, v in one.items()}
        for one in given
    ]
    torch.cuda.set_sync_debug_mode("error")
    try:
        made.process({}, on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made.evaluate(5) == expected.evaluate(5)


def bad(good: list[dict], places: dict[int, str]) -> list[dict]:
    """With a label (``"truth"``) or a prediction of class 7 at some places."""
    keys = dict(truth="gt_sem_seg", prediction="pred_sem_seg")
    for place, which in places.items():
        good[place][keys[which]]["data"][0, 0, :2] = 7
    return good


@pytest.mark.parametrize(
    ("places", "seen_after", "message"),
    [
        ({2: "truth"}, 3, "2.jpg: 2 pixels of its label are neither one of the 3 classes"),
        ({2: "prediction"}, 3, "2.jpg: 2 pixels are predicted outside the 3 classes"),
        ({1: "prediction", 2: "truth"}, 3, "1.jpg: 2 pixels are predicted"),
        ({1: "prediction", 0: "truth"}, 3, "0.jpg: 2 pixels of its label"),
        ({3: "truth"}, 6, "3.jpg: 2 pixels of its label"),
        ({6: "prediction"}, None, "6.jpg: 2 pixels are predicted"),
    ],
    ids=["truth", "prediction", "two", "first", "later", "last"],
)
def test_images_that_wait_to_be_checked(monkeypatch, places, seen_after, message):
    """The CPU in the place of a device: three images are checked at once, the rest in the end."""
    monkeypatch.setitem(module.CHECKED_TOGETHER, "cpu", 3)
    made = metric()
    given = bad(random_samples(7), places)
    for one in given[: seen_after - 1 if seen_after else None]:
        made.process({}, [one])
    with pytest.raises(UserError, match=message):
        made.process({}, [given[seen_after - 1]]) if seen_after else made.evaluate(7)

    made.process({}, random_samples(7))
    fresh = metric()
    fresh.process({}, random_samples(7))
    assert made.evaluate(7) == fresh.evaluate(7)


@pytest.mark.parametrize("together", [1, 2, 3, 5, 64])
def test_when_images_are_checked_changes_no_score(monkeypatch, together):
    expected = metric()
    expected.process({}, random_samples(5))
    monkeypatch.setitem(module.CHECKED_TOGETHER, "cpu", together)
    made = metric()
    for start in (0, 2, 4):
        made.process({}, random_samples(5)[start : start + 2])
    assert made.evaluate(5) == expected.evaluate(5)


def test_an_image_is_refused_on_the_cpu_before_the_next_one():
    given = bad(random_samples(2), {0: "truth", 1: "truth"})
    with pytest.raises(UserError, match=r"0\.jpg"):
        metric().process({}, given[:1])


# --- files ----------------------------------------------------------------------------------------


def test_predictions_are_written_as_label_pngs(tmp_path):
    made = metric(output_dir=tmp_path / "out", format_only=True)
    only = sample([[0, 0]], [[1, 2]], "some/dir/name.jpg")
    del only["gt_sem_seg"]
    made.process({}, [only])
    assert made.evaluate(1) == {}
    image = Image.open(tmp_path / "out" / "name.png")
    assert image.mode == "P"
    assert np.asarray(image).tolist() == [[1, 2]]
    assert image.convert("RGB").getpixel((1, 0)) == tuple(PALETTE[2])


def test_images_without_labels_are_written_and_not_scored(tmp_path):
    made = metric(output_dir=tmp_path)
    only = sample([[0, 0]], [[1, 2]], "n.jpg")
    del only["gt_sem_seg"]
    made.process({}, [only])
    assert made.evaluate(1) == {}
    assert (tmp_path / "n.png").is_file()


def test_one_prediction_does_not_overwrite_another(tmp_path):
    made = metric(output_dir=tmp_path)
    made.process({}, [sample([[0]], [[0]], "a/0.jpg")])
    with pytest.raises(UserError, match=r"b/0.jpg: a/0.jpg has the same name"):
        made.process({}, [sample([[0]], [[0]], "b/0.jpg")])


def test_ade20k_is_written_in_its_own_numbers(tmp_path):
    made = metric(output_dir=tmp_path)
    made.process({}, [sample([[0, 0]], [[1, 2]], "n.jpg", reduce_zero_label=True)])
    image = Image.open(tmp_path / "n.png")
    assert np.asarray(image).tolist() == [[2, 3]]
    assert image.convert("RGB").getpixel((1, 0)) == tuple(PALETTE[2])


def test_the_table_by_class(caplog):
    from mmengine.logging import MMLogger

    made = metric()
    made.process({}, [sample([[0, 0, 1, 255]], [[0, 1, 1, 2]])])
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        made.evaluate(1)
    finally:
        logger.removeHandler(caplog.handler)
    rows = {line.split("|")[1].strip(): line for line in caplog.text.splitlines() if "|" in line}
    assert "50.00" in rows["a"] and "66.67" in rows["a"]
    assert rows["c"].count("-") >= 2  # no pixels to judge by


def test_wrong_settings():
    with pytest.raises(ValueError, match="absent must be one of"):
        metric(absent="ignore")
    with pytest.raises(ValueError, match="needs an output_dir"):
        metric(format_only=True)
