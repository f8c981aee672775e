"""Late fusion: the sum of what each stream says alone, and trained as the published mean."""

from pathlib import Path

import pytest
import reference
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from models.small import labelled, segmentor
from torch import nn
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.models import SkipFusionHead, Streams
from fcn_plugin.models.features import Features
from fcn_plugin.prediction.windows import layouts

CONFIG = Path(__file__).parents[2] / "configs/fcn32s_vgg16_nyud-color-hha-heavy.py"
VGG = dict(type="ConvolutionalizedVGG", depth=11, base_channels=2, fc_channels=4)
WIDTHS = (2, 4, 8, 16, 16, 4)  # of its levels
CLASSES = 3


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double().eval()


@pytest.mark.parametrize("padding", ["reference", "same"])
@pytest.mark.parametrize("levels", [(5,), (3, 5), (2, 3, 5)], ids=["32s", "16s", "8s"])
@pytest.mark.parametrize("channels", [(3, 3), (1, 2, 4)], ids=str)
def test_the_scores_are_the_sum_of_the_scores_of_each_stream(channels, levels, padding):
    torch.manual_seed(0)
    vgg = dict(VGG, out_indices=levels, padding=padding)
    streams = [dict(vgg, in_channels=count) for count in channels]
    whole = randomised(Streams(streams, channels))
    image = torch.randn(2, sum(channels), 45, 70, dtype=torch.float64)
    features = whole(image)
    assert isinstance(features, Features) and features.image_size == (45, 70)
    widths = [WIDTHS[level] for level in levels]
    head = randomised(
        SkipFusionHead([width for width in widths for _ in channels], range(len(features)), CLASSES)
    )
    expected = 0
    for number, part in enumerate(image.split(channels, dim=1)):
        alone = SkipFusionHead(widths, range(len(levels)), CLASSES).double()
        alone.score = head.score[number :: len(channels)]
        expected = expected + alone(whole.streams[number](part))
    torch.testing.assert_close(head(features), expected, rtol=0, atol=1e-10)
    # Each stream sees its own channels.
    image[:, : channels[0]] = 0
    torch.testing.assert_close(whole(image)[1], features[1], rtol=0, atol=0)
    assert (whole(image)[0] - features[0]).abs().max() > 1e-3


def test_backbones_of_mmseg_are_streams_too():
    resnet = dict(type="ResNet", depth=18, base_channels=4, norm_cfg=dict(type="BN"), in_channels=2)
    levels = Streams([resnet, resnet], (2, 2))(torch.randn(1, 4, 64, 96))
    assert type(levels) is tuple
    assert [level.shape[-1] for level in levels] == [24, 24, 12, 12, 6, 6, 3, 3]


@pytest.mark.parametrize(
    ("streams", "channels", "message"),
    [
        ([VGG, VGG], (3,), "2 streams and channels"),
        ([VGG, VGG], (3, 1), "an image of 6 channels"),
        ([VGG, dict(VGG, padding="reference")], (3, 3), "give all streams the same"),
        ([VGG, dict(VGG, out_indices=(5,))], (3, 3), "3 and 1 levels"),
    ],
)
def test_what_does_not_fit_is_refused(streams, channels, message):
    with pytest.raises(UserError, match=message):
        Streams(streams, channels)(torch.zeros(1, 6, 32, 32))


def test_windows_of_large_pictures_know_what_streams_see():
    """As wide a margin as one stream needs, and a pixel of the second level more."""
    vgg = dict(VGG, out_indices=(5,))
    one = segmentor(backbone=vgg, head=dict(in_channels=(4,), in_index=(0,)))
    two = segmentor(
        backbone=dict(type="Streams", streams=[vgg, vgg], channels=(3, 3)),
        head=dict(in_channels=(4, 4), in_index=(0, 1)),
        data_preprocessor=None,
    )
    (alone, _), (both, _) = layouts(one), layouts(two)
    assert (both.step, both.margin) == (alone.step, alone.margin + 32)


def test_each_stream_begins_with_its_own_weights(tmp_path):
    files = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        (stream,) = Streams([VGG], (3,)).streams
        stream.init_weights()
        files.append(tmp_path / f"{seed}.pth")
        torch.save(stream.state_dict(), files[-1])
    streams = [dict(VGG, init_cfg=dict(type="Pretrained", checkpoint=str(file))) for file in files]
    whole = Streams(streams, (3, 3))
    whole.init_weights()
    for stream, file in zip(whole.streams, files, strict=True):
        for name, tensor in torch.load(file, weights_only=True).items():
            assert torch.equal(stream.state_dict()[name], tensor)


def test_half_of_the_scores_learns_as_the_published_mean():
    """Three steps of the config's optimizer, against Caffe's on the mean of whole scores."""
    cfg = Config.fromfile(CONFIG)
    vgg = dict(VGG, out_indices=(5,), padding="reference", dropout_ratio=0.0)
    model = segmentor(
        backbone=dict(type="Streams", streams=[vgg, vgg], channels=(3, 3)),
        head=dict(cfg.model.decode_head, in_channels=(4, 4), num_classes=CLASSES),
        data_preprocessor=None,
    ).double()
    head, image = model.decode_head, torch.randn(2, 6, 40, 40, dtype=torch.float64)
    samples = labelled((40, 40), torch.randint(0, CLASSES, (1, 40, 40)))
    label = torch.cat([sample.gt_sem_seg.data for sample in samples])
    # The published score layers, on features that stay as they are.
    features = Features(
        (level.detach() for level in model.backbone(image)), model.backbone.maps, (40, 40), True
    )
    published = [2 * p.detach().clone() for p in head.score.parameters()]
    momenta = [torch.zeros_like(p) for p in published]
    lr, momentum, decay = 1e-2, 0.99, 5e-4
    cfg.optim_wrapper.optimizer.lr = lr
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    before = [p.clone() for p in published]
    for _ in range(3):
        optimizer.zero_grad()
        head.loss(features, samples, {})["loss_ce"].backward()
        optimizer.step()
        theirs = [p.requires_grad_() for p in published]
        scores = [
            functional.conv2d(level, *theirs[2 * i : 2 * i + 2]) for i, level in enumerate(features)
        ]
        mean = reference.upscore(0.5 * scores[0] + 0.5 * scores[1], 64, 32)[..., 19:59, 19:59]
        loss = functional.cross_entropy(mean, label, reduction="sum")
        gradients = torch.autograd.grad(loss, theirs)
        for i, (p, gradient) in enumerate(zip(published, gradients, strict=True)):
            is_bias = p.dim() == 1
            p = p.detach()
            step = gradient + (0 if is_bias else decay) * p
            momenta[i] = momentum * momenta[i] + lr * (2 if is_bias else 1) * step
            published[i] = p - momenta[i]
    for ours, theirs, start in zip(head.score.parameters(), published, before, strict=True):
        torch.testing.assert_close(2 * ours, theirs, rtol=1e-9, atol=1e-12)
        assert (theirs - start).abs().max() > 1e-3
