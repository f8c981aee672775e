"""Labels straight from coarse scores are those of the host's two resizes and arg-max."""

import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.evaluator import DumpResults, Evaluator
from mmengine.fileio import load
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.utils._python_dispatch import TorchDispatchMode

from fcn_plugin.models import FCNSegmentor, SkipFusionHead, coarse
from fcn_plugin.models.coarse import axis, labels, upsample
from fcn_plugin.models.upsample import Placement

CLASSES = 5
METAS = {
    "as it is": dict(ori_shape=(45, 70)),
    "smaller before": dict(ori_shape=(31, 48)),
    "larger before": dict(ori_shape=(101, 155)),
    "padded": dict(ori_shape=(60, 90), img_padding_size=(0, 6, 3, 0)),
    "padded, other name": dict(ori_shape=(45, 60), padding_size=[4, 6, 0, 0]),
    "mirrored": dict(ori_shape=(45, 70), flip=True, flip_direction="horizontal"),
    "upside down": dict(ori_shape=(60, 50), flip=True, flip_direction="vertical"),
    "not mirrored": dict(ori_shape=(45, 70), flip=False, flip_direction="horizontal"),
    "all at once": dict(
        ori_shape=(99, 51), flip=True, flip_direction="horizontal", img_padding_size=(0, 5, 0, 7)
    ),
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Several blocks on either axis, even of small images."""
    monkeypatch.setattr(coarse, "ELEMENTS", 24 * 16 * CLASSES)
    monkeypatch.setattr(coarse, "HEIGHT", 16)


def segmentor(kind="FCNSegmentor", padding="same", test_cfg=None, **head):
    model = MODELS.build(
        dict(
            type=kind,
            data_preprocessor=dict(type="SegDataPreProcessor"),
            backbone=dict(
                type="ConvolutionalizedVGG",
                depth=11,
                padding=padding,
                base_channels=4,
                fc_channels=8,
            ),
            decode_head=dict(
                type="SkipFusionHead",
                in_channels=(16, 32, 8),
                in_index=(0, 1, 2),
                num_classes=CLASSES,
            )
            | head,
            test_cfg=ConfigDict(test_cfg or dict(mode="whole")),
        )
    )
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        gain = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() == 4 else 0.1
        torch.nn.init.normal_(parameter, std=gain, generator=generator)
    return model.double().eval()


def samples(meta: dict, number: int = 2) -> list[SegDataSample]:
    shapes = dict(img_shape=(45, 70), pad_shape=(45, 70))
    return [SegDataSample(metainfo=shapes | meta | dict(img_path="a.jpg")) for _ in range(number)]


@torch.no_grad()
def predicted(model, meta: dict, images=None) -> list[SegDataSample]:
    if images is None:
        generator = torch.Generator().manual_seed(4)
        images = torch.randn(2, 3, 45, 70, dtype=torch.float64, generator=generator)
        # Several classes: a colour that changes from corner to corner.
        images[:, 0] += 9 * torch.linspace(-1, 1, 45)[:, None]
        images[:, 1] += 9 * torch.linspace(-1, 1, 70)
    return model.predict(images, samples(meta, len(images)))


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize("meta", METAS.values(), ids=METAS)
def test_labels_and_scores_are_the_hosts(meta, padding):
    for made, expected in zip(
        predicted(segmentor(padding=padding), meta),
        predicted(segmentor("EncoderDecoder", padding=padding), meta),
        strict=True,
    ):
        exact = expected.seg_logits.data
        assert len(expected.pred_sem_seg.data.unique()) > 1
        torch.testing.assert_close(made.seg_logits.data, exact, rtol=0, atol=1e-10)
        assert made.seg_logits.shape == expected.seg_logits.shape
        assert made.pred_sem_seg.data.dtype == expected.pred_sem_seg.data.dtype
        # But where two classes are as good as equal.
        first, second = exact.topk(2, dim=0).values
        clear = (first - second > 1e-10)[None]
        assert clear.double().mean() > 0.999
        assert torch.equal(made.pred_sem_seg.data[clear], expected.pred_sem_seg.data[clear])


def test_turned_around():
    """What the host cannot undo: mirrored both ways."""
    generator = torch.Generator().manual_seed(4)
    image = torch.randn(1, 3, 64, 96, dtype=torch.float64, generator=generator)
    meta = dict(ori_shape=(64, 96), flip=True, flip_direction="diagonal")
    (turned,) = predicted(segmentor(), meta, image)
    (plain,) = predicted(segmentor(), dict(ori_shape=(64, 96)), image)
    torch.testing.assert_close(turned.seg_logits.data, plain.seg_logits.data.flip(-1, -2))
    assert torch.equal(turned.pred_sem_seg.data, plain.pred_sem_seg.data.flip(-1, -2))


def test_mixed_precision_ranks_in_single():
    """Class numbers beyond 256 are none of bfloat16's."""
    place = Placement(8, 3.5, 0, 40)
    scores = torch.randn(1, 300, 5, 5)
    side = axis(place, 5, False, scores.dtype, scores.device)
    exact = upsample(scores, side, side)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert upsample(scores, side, side).dtype == torch.float32
        assert torch.equal(labels(scores, side, side), exact.argmax(1))
        assert (labels(scores.bfloat16(), side, side) == exact.argmax(1)).float().mean() > 0.9


def test_a_missing_mirroring_is_noticed():
    """The comparison above can fail."""
    mirrored = predicted(segmentor(), METAS["mirrored"])
    plain = predicted(segmentor(), METAS["as it is"])
    agree = mirrored[0].pred_sem_seg.data == plain[0].pred_sem_seg.data
    assert agree.double().mean() < 0.99


def test_equal_scores_give_the_first_class():
    place = Placement(8, 3.5, 0, 40)
    scores = torch.zeros(1, CLASSES, 5, 5)
    scores[:, 0] = -1
    side = axis(place, 5, False, scores.dtype, scores.device)
    assert torch.equal(labels(scores, side, side), torch.ones(1, 40, 40, dtype=torch.long))
    assert torch.equal(labels(scores, side, side), upsample(scores, side, side).argmax(1))


@pytest.mark.parametrize("channels", [2, 3, 300])
def test_labels_are_the_arg_max(channels):
    scores = torch.randn(3, channels, 7, 9, dtype=torch.float64)
    place = Placement(6.5, 2.7, 1, 43)
    rows, cols = (axis(place, n, True, scores.dtype, scores.device) for n in (7, 9))
    assert torch.equal(labels(scores, rows, cols), upsample(scores, rows, cols).argmax(1))


class Largest(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.elements = max(self.elements, made.numel())
        return made


@pytest.mark.parametrize("kind", ["FCNSegmentor", "EncoderDecoder"])
def test_no_scores_of_the_images_size(kind):
    """Not even where a metric is handed everything; reading them computes them."""
    model = segmentor(kind)
    model.backbone.forward = lambda images: [
        torch.randn(len(images), c, 6, 9, dtype=torch.float64) for c in (16, 32, 8)
    ]
    full = CLASSES * 200 * 300
    with Largest() as largest:
        found = predicted(model, dict(ori_shape=(200, 300)))
        handed = [sample.to_dict() for sample in found]
        assert (largest.elements < full) == (kind == "FCNSegmentor")
        scores = handed[0]["seg_logits"]["data"]
    assert scores.shape == (CLASSES, 200, 300) and largest.elements >= full
    with pytest.raises(KeyError):
        handed[0]["seg_logits"]["date"]


def test_scores_on_demand_are_pixel_data():
    (found, _), (expected, _) = (
        predicted(segmentor(kind), METAS["larger before"])
        for kind in ("FCNSegmentor", "EncoderDecoder")
    )
    exact = expected.seg_logits.data
    lazy = found.seg_logits
    assert isinstance(lazy, PixelData) and "data" in lazy and lazy.keys() == ["data"]
    for copied in (
        lazy.cpu(),
        lazy.detach(),
        lazy.to("cpu"),
        lazy.clone(),
        pickle.loads(pickle.dumps(lazy)),
        found.cpu().seg_logits,
    ):
        torch.testing.assert_close(copied.data, exact, rtol=0, atol=1e-10)
        assert copied.shape == (101, 155)
    assert lazy.numpy().data.shape == (CLASSES, 101, 155)
    torch.testing.assert_close(lazy[3:5, 7:9].data, exact[:, 3:5, 7:9], rtol=0, atol=1e-10)
    with pytest.raises(AttributeError, match="date"):
        _ = lazy.date
    found, _ = predicted(segmentor(), METAS["larger before"])
    found.seg_logits.data[0] += 5  # what is written into them stays
    torch.testing.assert_close(found.seg_logits.data[0], exact[0] + 5, rtol=0, atol=1e-10)


def test_metrics_are_handed_a_dictionary():
    handed = predicted(segmentor(), METAS["larger before"])[0].to_dict()["seg_logits"]
    assert isinstance(handed, dict) and "data" in handed and len(handed) == 1
    assert list(handed) == list(handed.keys()) == list(dict(handed)) == list({**handed}) == ["data"]
    for scores in (handed.get("data"), *handed.values(), handed.copy()["data"], {**handed}["data"]):
        assert scores.shape == (CLASSES, 101, 155)
    assert handed.get("date") is None
    with pytest.raises(KeyError):
        handed["date"]


def test_dumped_results_hold_the_scores(tmp_path):
    evaluator = Evaluator(DumpResults(str(tmp_path / "results.pkl")))
    evaluator.process(predicted(segmentor(), METAS["larger before"]))
    evaluator.evaluate(2)
    found = load(tmp_path / "results.pkl")
    assert [sample["seg_logits"]["data"].shape for sample in found] == [(CLASSES, 101, 155)] * 2


@pytest.mark.parametrize(
    "settings",
    [
        dict(upsample="deconv"),
        dict(upsample="nearest"),
        dict(blockwise=False),
        dict(out_channels=1, num_classes=2, threshold=0.3),
        dict(test_cfg=dict(mode="slide", crop_size=(32, 32), stride=(20, 20))),
    ],
    ids=["deconv", "nearest", "plain", "one channel", "sliding"],
)
def test_what_it_cannot_do_goes_the_hosts_way(settings):
    for made, expected in zip(
        predicted(segmentor(**settings), METAS["larger before"]),
        predicted(segmentor("EncoderDecoder", **settings), METAS["larger before"]),
        strict=True,
    ):
        assert type(made.seg_logits) is PixelData
        assert torch.equal(made.seg_logits.data, expected.seg_logits.data)
        assert torch.equal(made.pred_sem_seg.data, expected.pred_sem_seg.data)


def test_other_heads_and_images_without_samples_go_the_hosts_way():
    other = dict(type="FCNHead", in_index=2, in_channels=8, channels=8, num_convs=1, norm_cfg=None)
    model = FCNSegmentor(
        backbone=dict(type="ConvolutionalizedVGG", depth=11, base_channels=4, fc_channels=8),
        decode_head=other | dict(num_classes=CLASSES, in_channels=8),
        test_cfg=ConfigDict(mode="whole"),
    ).eval()
    assert not isinstance(model.decode_head, SkipFusionHead)
    found = predicted(model, METAS["as it is"], torch.randn(1, 3, 45, 70))
    assert type(found[0].seg_logits) is PixelData
    with torch.no_grad():
        (found,) = segmentor().predict(torch.randn(1, 3, 45, 70, dtype=torch.float64))
    assert found.seg_logits.data.shape == (CLASSES, 45, 70)


class Own(FCNSegmentor):
    def postprocess_result(self, scores, samples=None):
        return super().postprocess_result(-scores, samples)


class OwnHead(SkipFusionHead):
    def predict(self, *inputs):
        return -super().predict(*inputs)


@pytest.mark.parametrize("part, kind", [("segmentor", Own), ("head", OwnHead)])
def test_what_a_subclass_changes_is_not_passed_by(part, kind):
    model = segmentor()
    (model if part == "segmentor" else model.decode_head).__class__ = kind
    (changed, _), (plain, _) = (predicted(m, METAS["as it is"]) for m in (model, segmentor()))
    torch.testing.assert_close(changed.seg_logits.data, -plain.seg_logits.data)


def test_gradients_reach_the_image():
    image = torch.randn(1, 3, 45, 70, dtype=torch.float64, requires_grad=True)
    (found,) = segmentor().predict(image, samples(METAS["larger before"], 1))
    found.seg_logits.data.sum().backward()
    assert image.grad.abs().max() > 0


def test_augmented_testing_gets_its_scores():
    images = torch.randn(1, 3, 45, 70, dtype=torch.float64)
    merged = []
    for kind in ("FCNSegmentor", "EncoderDecoder"):
        model = SegTTAModel(module=segmentor(kind))
        views = [
            predicted(model.module, METAS["as it is"], images),
            predicted(model.module, METAS["mirrored"], images.flip(-1)),
        ]
        (sample,) = model.merge_preds([list(view) for view in zip(*views, strict=True)])
        merged.append(sample.pred_sem_seg.data)
    assert (merged[0] == merged[1]).double().mean() > 0.999


def test_metrics_see_the_same():
    scores = []
    truth = torch.randint(0, CLASSES, (1, 101, 155))
    for kind in ("FCNSegmentor", "EncoderDecoder"):
        evaluator = Evaluator(dict(type="ConfusionMatrixMetric", _scope_="mmseg"))
        evaluator.dataset_meta = dict(classes=list("abcde"))
        found = predicted(segmentor(kind), METAS["larger before"])
        for sample in found:
            sample.gt_sem_seg = PixelData(data=truth)
        evaluator.process(found)
        scores.append(evaluator.evaluate(len(found)))
    assert scores[0] == pytest.approx(scores[1], abs=0.01)
