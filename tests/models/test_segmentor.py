"""Labels straight from coarse scores are those of mmseg's two resizes and arg-max."""

import pickle
from dataclasses import replace

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from models.small import CLASSES, Largest, segmentor

from fcn_plugin.evaluation.calibration import confidence_of
from fcn_plugin.models import FCNSegmentor, probability
from fcn_plugin.models.coarse import axis, fine_scores, labels
from fcn_plugin.models.probability import label_probability, scores_at
from fcn_plugin.models.upsample import Placement

pytestmark = pytest.mark.usefixtures("small_blocks")
SIZE = (45, 70)
AS_IT_IS = dict(ori_shape=SIZE)
LARGER = dict(ori_shape=(101, 155))
METAS = {
    "as it is": AS_IT_IS,
    "smaller before": dict(ori_shape=(31, 48)),
    "larger before": LARGER,
    "padded, other name": dict(ori_shape=(45, 60), padding_size=[4, 6, 0, 0]),
    "upside down": dict(ori_shape=(60, 50), flip=True, flip_direction="vertical"),
    "all at once": dict(ori_shape=(99, 51), flip=True, flip_direction="horizontal")
    | dict(img_padding_size=(0, 5, 3, 7)),
}


def network(**settings):
    return segmentor(**settings).double().eval()


def colourful(number: int = 2) -> torch.Tensor:
    """Several classes: a colour that changes from corner to corner."""
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(number, 3, *SIZE, dtype=torch.float64, generator=generator)
    images[:, 0] += 9 * torch.linspace(-1, 1, SIZE[0])[:, None]
    images[:, 1] += 9 * torch.linspace(-1, 1, SIZE[1])
    return images


def samples(meta: dict, number: int = 2) -> list[SegDataSample]:
    shapes = dict(img_shape=SIZE, pad_shape=SIZE, img_path="a.jpg")
    return [SegDataSample(metainfo=shapes | meta) for _ in range(number)]


@torch.no_grad()
def predicted(model, meta: dict) -> list[SegDataSample]:
    return model.predict(colourful(), samples(meta))


def both(meta: dict, **settings) -> list[tuple[SegDataSample, SegDataSample]]:
    """Each image's prediction and mmseg's."""
    models = (network(type=kind, **settings) for kind in ("FCNSegmentor", "EncoderDecoder"))
    return list(zip(*(predicted(model, meta) for model in models), strict=True))


@pytest.mark.parametrize(
    ("meta", "padding"),
    [*((meta, "same") for meta in METAS), ("as it is", "reference"), ("all at once", "reference")],
)
def test_labels_and_scores_are_mmsegs(meta, padding):
    for found, expected in both(METAS[meta], padding=padding):
        exact = expected.seg_logits.data
        assert len(expected.pred_sem_seg.data.unique()) > 1
        torch.testing.assert_close(found.seg_logits.data, exact, rtol=0, atol=1e-10)
        assert found.seg_logits.shape == expected.seg_logits.shape
        assert found.pred_sem_seg.data.dtype == expected.pred_sem_seg.data.dtype
        # All but where two classes are as good as equal.
        first, second = exact.topk(2, dim=0).values
        clear = (first - second > 1e-10)[None]
        assert clear.double().mean() > 0.999
        assert torch.equal(found.pred_sem_seg.data[clear], expected.pred_sem_seg.data[clear])


def test_mirrored_both_ways():
    """Which mmseg cannot undo; and without, the comparison above would fail."""
    diagonal = AS_IT_IS | dict(flip=True, flip_direction="diagonal")
    (turned, _), (plain, _) = (predicted(network(), meta) for meta in (diagonal, AS_IT_IS))
    torch.testing.assert_close(turned.seg_logits.data, plain.seg_logits.data.flip(-1, -2))
    assert torch.equal(turned.pred_sem_seg.data, plain.pred_sem_seg.data.flip(-1, -2))
    assert (turned.pred_sem_seg.data == plain.pred_sem_seg.data).double().mean() < 0.99


def test_equal_scores_and_mixed_precision():
    """The first class counts; ranked in single precision, as bfloat16 has no number above 256."""
    scores = torch.randn(1, 300, 5, 5)
    side = axis(Placement(8, 3.5, 0, 40), 5, False, scores.dtype, scores.device)
    equal = torch.zeros(1, CLASSES, 5, 5).index_fill_(1, torch.tensor(0), -1)
    assert torch.equal(labels(equal, side, side), torch.ones(1, 40, 40, dtype=torch.long))
    exact = fine_scores(scores, side, side)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fine_scores(scores, side, side).dtype == torch.float32
        assert torch.equal(labels(scores, side, side), exact.argmax(1))
        assert (labels(scores.bfloat16(), side, side) == exact.argmax(1)).float().mean() > 0.9


@pytest.mark.parametrize("kind", ["FCNSegmentor", "EncoderDecoder"])
def test_no_scores_of_the_images_size(kind):
    """Not even where a metric gets everything; reading them computes them."""
    model = network(type=kind)
    model.backbone.forward = lambda images: [
        torch.randn(len(images), c, 6, 9, dtype=torch.float64) for c in (16, 32, 8)
    ]
    full = CLASSES * 200 * 300
    with Largest() as largest:
        sample = predicted(model, dict(ori_shape=(200, 300)))[0].to_dict()
        assert (largest.elements < full) == (kind == "FCNSegmentor")
        scores = sample["seg_logits"]["data"]
    assert scores.shape == (CLASSES, 200, 300) and largest.elements >= full


def test_scores_on_demand_are_pixel_data():
    ((found, expected), _) = both(LARGER)
    exact, lazy = expected.seg_logits.data, found.seg_logits
    assert isinstance(lazy, PixelData) and "data" in lazy and lazy.keys() == ["data"]
    for copied in (pickle.loads(pickle.dumps(lazy)), lazy.clone(), found.cpu().seg_logits):
        torch.testing.assert_close(copied.data, exact, rtol=0, atol=1e-10)
        assert copied.shape == (101, 155)
    torch.testing.assert_close(lazy[3:5, 7:9].data, exact[:, 3:5, 7:9], rtol=0, atol=1e-10)
    with pytest.raises(AttributeError, match="date"):
        _ = lazy.date
    found, _ = predicted(network(), LARGER)
    found.seg_logits.data[0] += 5  # what is written into them stays
    torch.testing.assert_close(found.seg_logits.data[0], exact[0] + 5, rtol=0, atol=1e-10)


def test_metrics_get_a_dictionary():
    fields = predicted(network(), LARGER)[0].to_dict()["seg_logits"]
    assert isinstance(fields, dict) and "data" in fields and list(fields) == ["data"]
    copied = dict(fields.items())  # as DumpResults does
    for scores in (fields.get("data"), fields.copy()["data"], copied["data"], {**fields}["data"]):
        assert scores.shape == (CLASSES, 101, 155)


@pytest.mark.parametrize(
    "settings",
    [
        dict(head=dict(upsample="deconv")),
        dict(head=dict(out_channels=1, num_classes=2, threshold=0.3)),
        dict(head=dict(type="FCNHead", in_index=2, in_channels=8, channels=8, num_classes=5)),
        dict(test_cfg=dict(mode="slide", crop_size=(32, 32), stride=(20, 20))),
    ],
    ids=["deconv", "one channel", "another head", "sliding"],
)
def test_what_it_cannot_do_takes_mmsegs_path(settings):
    for found, expected in both(LARGER, **settings):
        assert type(found.seg_logits) is PixelData
        assert torch.equal(found.seg_logits.data, expected.seg_logits.data)
        assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)


def test_gradients_reach_the_image_without_a_sample():
    image = colourful(1).requires_grad_()
    (found,) = network().predict(image)
    found.seg_logits.data.sum().backward()
    assert found.seg_logits.shape == SIZE and image.grad.abs().max() > 0


class Own(FCNSegmentor):
    def postprocess_result(self, scores, samples=None):
        return super().postprocess_result(-scores, samples)


def test_what_a_subclass_changes_is_not_skipped():
    model = network()
    model.__class__ = Own
    (changed, _), (plain, _) = (predicted(m, AS_IT_IS) for m in (model, network()))
    torch.testing.assert_close(changed.seg_logits.data, -plain.seg_logits.data)


def at_all(lazy, shape) -> torch.Tensor:
    """The scores at all pixels, one by one."""
    rows, cols = (
        places.flatten() for places in torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    )
    return scores_at(*lazy.coarse, rows, cols).t().unflatten(1, shape)


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize("meta", METAS)
def test_probabilities_and_single_scores_are_those_of_all_scores(meta, padding, monkeypatch):
    monkeypatch.setattr(probability, "ELEMENTS", 500)
    for found, expected in both(METAS[meta], padding=padding):
        exact, fields = expected.seg_logits.data, found.to_dict()["seg_logits"]
        sure = exact.softmax(0).amax(0)
        assert sure.std() > 0.01
        single = at_all(fields, exact.shape[1:])
        torch.testing.assert_close(single, exact, rtol=0, atol=1e-10)
        certain = confidence_of(found.to_dict())
        torch.testing.assert_close(certain, sure, rtol=0, atol=1e-12)
        torch.testing.assert_close(fields["data"], exact, rtol=0, atol=1e-10)
        assert fields.coarse is None and found.seg_logits.coarse is None
        torch.testing.assert_close(confidence_of(found.to_dict()), sure, rtol=0, atol=1e-12)


def test_probabilities_in_single_precision_without_all_scores():
    scores = 9 * torch.randn(1, CLASSES, 6, 9)
    axes = (
        axis(Placement(8, 3.5, 0, 8 * size), size, False, scores.dtype, scores.device)
        for size in (6, 9)
    )
    rows, cols = axes
    exact = fine_scores(
        scores.double(), *(replace(a, weights=a.weights.double()) for a in (rows, cols))
    )
    with Largest() as largest, torch.autocast("cpu", dtype=torch.bfloat16):
        found = label_probability(scores, rows, cols)
    assert largest.elements < CLASSES * 48 * 72
    torch.testing.assert_close(found.double(), exact.softmax(1).amax(1), rtol=0, atol=3e-6)
