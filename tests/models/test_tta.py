"""Views of an image are merged in probabilities, of networks with one score or several."""

import copy

import pytest
import torch
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from models.small import segmentor

from fcn_plugin.models import FCNTTAModel
from fcn_plugin.models.tta import with_tta

SIZE, IMAGES = (45, 70), 2
KINDS = {"several": {}, "single": dict(num_classes=2, out_channels=1, threshold=0.3)}


class InDouble(torch.nn.Module):
    """mmseg's makes float32 of all."""

    def forward(self, data: dict, training: bool) -> dict:
        return dict(data, inputs=torch.stack(data["inputs"]))


def network(kind: str):
    model = segmentor(head=KINDS[kind])
    model.data_preprocessor = InDouble()
    return model.double().eval()


def view(mirrored: bool = False, scale: float = 1.0) -> tuple[list, list]:
    """The images and samples of a batch as ``TestTimeAug`` has them."""
    generator = torch.Generator().manual_seed(4)
    images = 9 * torch.randn(IMAGES, 3, 6, 8, dtype=torch.float64, generator=generator)
    size = tuple(int(scale * side) for side in SIZE)
    images = torch.nn.functional.interpolate(images, size, mode="bilinear")
    images = images.flip(-1) if mirrored else images
    meta = dict(img_shape=size, ori_shape=SIZE, pad_shape=size, img_path="a.jpg")
    meta |= dict(flip=mirrored, flip_direction="horizontal")
    return list(images), [SegDataSample(metainfo=meta) for _ in images]


def batch(*views: tuple[list, list]) -> dict:
    inputs, samples = zip(*views, strict=True)
    return dict(inputs=list(inputs), data_samples=list(samples))


@torch.no_grad()
def plain(model, one: tuple[list, list]) -> list[SegDataSample]:
    return model.test_step(dict(inputs=one[0], data_samples=copy.deepcopy(one[1])))


@torch.no_grad()
def merged(model, *views: tuple[list, list], kind=FCNTTAModel) -> torch.Tensor:
    found = kind(model).test_step(batch(*copy.deepcopy(views)))
    return torch.stack([sample.pred_sem_seg.data.reshape(SIZE) for sample in found]).long()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [1, 2])
def test_views_that_agree_give_the_networks_own_labels(kind, number):
    model = network(kind)
    own = torch.stack([s.pred_sem_seg.data[0].long() for s in plain(model, view())])
    assert len(own.unique()) > 1
    assert torch.equal(merged(model, *[view()] * number), own)
    # mmseg's own takes the sigmoid of a probability.
    agrees = torch.equal(merged(model, *[view()] * number, kind=SegTTAModel), own)
    assert agrees == (kind == "several")


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_mean_probability(kind):
    model = network(kind)
    views = [view(), view(mirrored=True), view(scale=1.5)]
    scores = torch.stack(
        [torch.stack([s.seg_logits.data for s in plain(model, one)]) for one in views]
    )
    if kind == "several":
        mean = (scores.exp() / scores.exp().sum(2, keepdim=True)).mean(0)
        expected = mean.argmax(1)
    else:
        expected = (scores.mean(0) > 0.3)[:, 0].long()
    found = merged(model, *views)
    assert torch.equal(found, expected) and len(found.unique()) > 1
    assert not torch.equal(found, merged(model, views[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_and_mmsegs_way_to_merge(kind):
    model, views = network(kind), [view(), view(mirrored=True)]
    with torch.no_grad():
        found = FCNTTAModel(model).test_step(batch(*copy.deepcopy(views)))
        by_mmseg = super(FCNTTAModel, FCNTTAModel(model)).test_step(batch(*views))
    for sample, other in zip(found, by_mmseg, strict=True):
        assert sample.img_path == "a.jpg" and "seg_logits" not in sample
        assert sample.pred_sem_seg.data.dtype == torch.int64
        assert sample.pred_sem_seg.data.shape == (1, *SIZE)
        assert torch.equal(sample.pred_sem_seg.data, other.pred_sem_seg.data)


def test_one_views_scores_at_a_time(monkeypatch):
    """Twelve views take the memory of two: a sum, and the scores of one."""
    model, alive = network("several"), []
    step = type(model).test_step

    def watched(self, data):
        samples = step(self, data)
        alive.extend(samples)
        return samples

    monkeypatch.setattr(type(model), "test_step", watched)
    merged(model, *[view()] * 4)
    assert len(alive) == 4 * IMAGES and not any("seg_logits" in sample for sample in alive)


@pytest.mark.parametrize("named", ["SegTTAModel", "mmseg.SegTTAModel", SegTTAModel])
def test_ours_replaces_mmsegs(named):
    model = network("single")
    assert type(MODELS.build(with_tta(dict(type=named), model))) is FCNTTAModel


def test_a_users_own_is_kept():
    class Own(SegTTAModel):
        pass

    assert with_tta(dict(type=Own), {}) == dict(type=Own, module={})
