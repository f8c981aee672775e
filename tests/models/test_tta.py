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
def merged(model, *views: tuple[list, list], kind=FCNTTAModel) -> torch.Tensor:
    inputs, samples = zip(*copy.deepcopy(views), strict=True)
    found = kind(model).test_step(dict(inputs=list(inputs), data_samples=list(samples)))
    return torch.cat([sample.pred_sem_seg.data.reshape(1, *SIZE) for sample in found])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_mean_probability(kind, monkeypatch):
    model, alive = network(kind), []
    views = [view(), view(mirrored=True), view(scale=1.5)]
    step = type(model).test_step

    def watched(self, data):
        samples = step(self, data)
        alive.extend(samples)
        return samples

    with torch.no_grad():
        plain = [model.test_step(dict(inputs=i, data_samples=copy.deepcopy(s))) for i, s in views]
    scores = torch.stack([torch.stack([s.seg_logits.data for s in one]) for one in plain])
    if kind == "several":
        expected = (scores.exp() / scores.exp().sum(2, keepdim=True)).mean(0).argmax(1)
    else:
        expected = (scores.mean(0) > 0.3)[:, 0].long()
    monkeypatch.setattr(type(model), "test_step", watched)
    found = merged(model, *views)
    # One view's scores at a time: twelve views take the memory of a sum and the scores of one.
    assert len(alive) == 3 * IMAGES and not any("seg_logits" in sample for sample in alive)
    torch.testing.assert_close(found, expected)  # of the same type
    assert len(found.unique()) > 1
    assert not torch.equal(found, merged(model, views[0]))
    # The same in mmseg's way, with the scores of all views at once.
    assert torch.equal(found, merged(model, *views, kind=MergedAtOnce))
    # mmseg's own takes the sigmoid of a probability.
    assert torch.equal(found, merged(model, *views, kind=SegTTAModel)) == (kind == "several")


@pytest.mark.parametrize("named", ["mmseg.SegTTAModel", SegTTAModel, MergedAtOnce])
def test_ours_replaces_mmsegs_but_no_other(named):
    made = MODELS.build(with_tta(dict(type=named), network("single")))
    assert type(made) is (MergedAtOnce if named is MergedAtOnce else FCNTTAModel)
