"""Views of an image are merged in probabilities, of networks with one score or several."""

import copy

import pytest
import torch
from mmengine.model import BaseTTAModel
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from models.small import segmentor

from fcn_plugin.models import FCNTTAModel
from fcn_plugin.models.tta import with_tta

SIZE, IMAGES = (45, 70), 2
KINDS = {"several": {}, "single": dict(num_classes=2, out_channels=1, threshold=0.3)}


class MergedAtOnce(FCNTTAModel):
    test_step = BaseTTAModel.test_step


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


@torch.no_grad()
def plain(model, one: tuple[list, list]) -> list[SegDataSample]:
    return model.test_step(dict(inputs=one[0], data_samples=copy.deepcopy(one[1])))


@torch.no_grad()
def merged(model, *views: tuple[list, list], kind=FCNTTAModel) -> torch.Tensor:
    inputs, samples = zip(*copy.deepcopy(views), strict=True)
    found = kind(model).test_step(dict(inputs=list(inputs), data_samples=list(samples)))
    assert all(sample.img_path == "a.jpg" for sample in found)
    return torch.cat([sample.pred_sem_seg.data.reshape(1, *SIZE) for sample in found])


@pytest.mark.parametrize("kind", KINDS)
def test_views_that_agree_give_the_networks_own_labels(kind):
    model = network(kind)
    own = torch.cat([sample.pred_sem_seg.data for sample in plain(model, view())]).long()
    assert len(own.unique()) > 1
    for number in (1, 2):
        assert torch.equal(merged(model, *[view()] * number).long(), own)
    # mmseg's own takes the sigmoid of a probability.
    agrees = torch.equal(merged(model, view(), view(), kind=SegTTAModel).long(), own)
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
    torch.testing.assert_close(found, expected)  # of the same type
    assert len(found.unique()) > 1
    assert not torch.equal(found, merged(model, views[0]))
    # The same in mmseg's way, with the scores of all views at once.
    assert torch.equal(found, merged(model, *views, kind=MergedAtOnce))


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


@pytest.mark.parametrize("named", ["SegTTAModel", "mmseg.SegTTAModel", SegTTAModel, MergedAtOnce])
def test_ours_replaces_mmsegs_but_no_other(named):
    made = MODELS.build(with_tta(dict(type=named), network("single")))
    assert type(made) is (MergedAtOnce if named is MergedAtOnce else FCNTTAModel)
