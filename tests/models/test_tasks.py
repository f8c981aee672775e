"""A segmentor with further heads: each is trained and predicts as if it were the only one."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from models.small import CLASSES, segmentor

from fcn_plugin.data.tasks import fields
from fcn_plugin.errors import UserError
from fcn_plugin.models import FCNTTAModel

pytestmark = pytest.mark.usefixtures("small_blocks")
GEO = 3
HEAD = dict(type="SkipFusionHead", in_channels=(16, 32, 8), in_index=(0, 1, 2), num_classes=GEO)
SIZE, SLIDE = (45, 70), dict(mode="slide", crop_size=(32, 32), stride=(20, 20))
META = dict(ori_shape=(60, 50), img_shape=SIZE, pad_shape=SIZE, img_path="a.jpg")
META |= dict(flip=True, flip_direction="horizontal")


def network(geo: dict | None = None, **settings):
    return segmentor(task_heads=dict(geo=HEAD | (geo or {})), **settings).double().eval()


def alone(model, task: str | None):
    model = copy.deepcopy(model)
    model.keep_only(task)
    return model


def images(number: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return 9 * torch.randn(number, 3, *SIZE, dtype=torch.float64, generator=generator)


def samples(sizes=(SIZE, SIZE)) -> list[SegDataSample]:
    generator = torch.Generator().manual_seed(5)
    made = []
    for size in sizes:
        main = torch.randint(0, CLASSES, (1, *SIZE), generator=generator)
        geo = torch.randint(0, GEO, (1, *size), generator=generator)
        data = dict(gt_sem_seg=PixelData(data=main), gt_geo_seg=PixelData(data=geo))
        made.append(SegDataSample(metainfo=META, **data))
    return made


def of_geo(sample: SegDataSample) -> SegDataSample:
    """The sample with its further label, padded to the image, as the main one."""
    label = torch.full((1, *SIZE), 255)
    label[:, : sample.gt_geo_seg.shape[0], : sample.gt_geo_seg.shape[1]] = sample.gt_geo_seg.data
    return SegDataSample(metainfo=META, gt_sem_seg=PixelData(data=label))


# --- training ------------------------------------------------------------------------------------


def gradients(model, given: list[SegDataSample]) -> tuple[dict, dict]:
    losses = model.loss(images(), given)
    sum(value for name, value in losses.items() if "loss" in name).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_losses_and_gradients_are_the_sums_of_each_alone():
    """Also of labels that only the preprocessor's padding makes as large as the images."""
    given, model = samples((SIZE, (40, 66))), network()
    losses, found = gradients(model, given)
    main, of_main = gradients(alone(model, None), given)
    geo, of_task = gradients(alone(model, "geo"), list(map(of_geo, given)))
    assert losses.keys() == {*main, "geo.loss_ce", "geo.acc_seg"}
    assert losses["decode.loss_ce"] == main["decode.loss_ce"]
    assert losses["geo.loss_ce"] == geo["decode.loss_ce"] != 0
    shared = [name for name in found if name.startswith("backbone.")]
    assert len(shared) > 10
    for name in shared:
        expected = of_main[name] + of_task[name]
        torch.testing.assert_close(found[name], expected, rtol=1e-10, atol=1e-14)
    assert not torch.allclose(found[shared[0]], of_main[shared[0]], rtol=1e-3)
    for i in range(3):
        name = f"score.{i}.weight"
        assert torch.equal(found[f"task_heads.geo.{name}"], of_task[f"decode_head.{name}"])


def test_auxiliary_heads_are_trained_too():
    fcn = dict(type="FCNHead", in_index=2, in_channels=8, channels=8, num_classes=CLASSES)
    given = samples()
    for auxiliary, names in (fcn, ["aux"]), ([fcn, fcn], ["aux_0", "aux_1"]):
        model = network(auxiliary_head=auxiliary).train()
        model.backbone.eval()
        state = copy.deepcopy(model.state_dict())
        torch.manual_seed(0)
        losses = model.loss(images(), given)
        assert [name.split(".")[0] for name in losses][::2] == ["decode", *names, "geo"]
        model.load_state_dict(state)
        model.keep_only(None)  # mmseg's own sum
        torch.manual_seed(0)
        for name, value in model.loss(images(), given).items():
            torch.testing.assert_close(losses[name], value)


def test_new_score_layers_start_at_zero():
    model = network()
    assert all(score.weight.any() for score in model.task_heads.geo.score)
    model.init_weights()
    assert not any(score.weight.any() for score in model.task_heads.geo.score)


def test_a_label_that_cannot_be_learned_from():
    (sample,) = samples([(46, 70)])
    with pytest.raises(UserError, match=r"a.jpg: label gt_geo_seg of 70x46 for an image of 70x45"):
        network().loss(images(1), [sample])
    del sample.gt_geo_seg
    with pytest.raises(UserError, match=r"a.jpg: no label gt_geo_seg to train the task 'geo'"):
        network().loss(images(1), [sample])


@pytest.mark.parametrize("name", ["sem", "decode", "aux_0", "glossy_loss", "two words", ""])
def test_a_name_that_no_task_can_have(name):
    with pytest.raises(UserError, match="give it a name"):
        segmentor(task_heads={name: HEAD})


# --- prediction ----------------------------------------------------------------------------------

KINDS = {
    "from coarse scores": {},
    "sliding": dict(test_cfg=SLIDE),
    "learned upsampling": dict(geo=dict(upsample="deconv")),
    "one channel": dict(geo=dict(num_classes=2, out_channels=1, threshold=0.7)),
    "another head": dict(
        geo=dict(type="FCNHead", in_index=2, in_channels=8, channels=8, align_corners=True)
    ),
}


def predicted(model, given: list[SegDataSample] | None) -> list[SegDataSample]:
    with torch.no_grad():
        return model.predict(images(), given)


@pytest.mark.parametrize("kind", KINDS)
def test_each_task_is_predicted_as_if_alone(kind):
    model = network(**KINDS[kind])
    heads = model.decode_head, model.out_channels, model.align_corners
    found = predicted(model, samples())
    assert (model.decode_head, model.out_channels, model.align_corners) == heads
    assert all(sample.gt_geo_seg.shape == SIZE for sample in found)
    for task in (None, "geo"):
        names = fields(task)
        for sample, expected in zip(found, predicted(alone(model, task), samples()), strict=True):
            labels, scores = sample.get(names.prediction), sample.get(names.scores)
            assert torch.equal(labels.data, expected.pred_sem_seg.data)
            torch.testing.assert_close(scores.data, expected.seg_logits.data, rtol=0, atol=1e-10)
            assert labels.shape == META["ori_shape"] and len(labels.data.unique()) > 1
    assert not torch.equal(found[0].pred_geo_seg.data, found[0].pred_sem_seg.data)


def test_without_samples():
    assert {"pred_sem_seg", "pred_geo_seg"} < set(predicted(network(), None)[0].keys())


class InDouble(torch.nn.Module):
    def forward(self, data: dict, training: bool) -> dict:
        return dict(data, inputs=torch.stack(data["inputs"]))


def test_views_are_merged_for_each_task():
    model = network()
    model.data_preprocessor = InDouble()
    views = [list(images()), list(images().flip(-1) * 0.5)]

    def merged(model) -> list[SegDataSample]:
        data = dict(inputs=views, data_samples=[samples() for _ in views])
        with torch.no_grad():
            return FCNTTAModel(model).test_step(data)

    for task in (None, "geo"):
        for sample, expected in zip(merged(model), merged(alone(model, task)), strict=True):
            assert torch.equal(sample.get(fields(task).prediction).data, expected.pred_sem_seg.data)
            assert fields(task).scores not in sample
    (one, _), (both, _) = predicted(model, samples()), merged(model)
    assert not torch.equal(one.pred_geo_seg.data, both.pred_geo_seg.data)
