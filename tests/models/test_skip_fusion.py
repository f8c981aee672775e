import copy
import pickle

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.models import ConvolutionalizedAlexNet, ConvolutionalizedVGG, SkipFusionHead
from fcn_plugin.models.features import Features

CLASSES = 4


def head(channels=(4, 5, 6), **settings) -> SkipFusionHead:
    made = SkipFusionHead(
        **{"in_channels": channels, "in_index": range(len(channels)), "num_classes": CLASSES}
        | settings
    )
    made.init_weights()
    for score in made.score:
        torch.nn.init.normal_(score.weight)
    return made


def features(size, strides, channels=(4, 5, 6)):
    """What a host's backbone returns: a plain tuple, sizes rounded up."""
    return tuple(
        torch.randn(2, c, *(-(-side // stride) for side in size))
        for c, stride in zip(channels, strides, strict=True)
    )


def samples(size, label=None) -> list[SegDataSample]:
    made = []
    for _ in range(2):
        data = torch.randint(0, CLASSES, (1, *size)) if label is None else label.clone()
        sample = SegDataSample(gt_sem_seg=PixelData(data=data))
        sample.set_metainfo(dict(img_shape=size, ori_shape=size, pad_shape=size))
        made.append(sample)
    return made


STRIDES = {
    "rising": (8, 16, 32),
    "equal (dilated)": (8, 8, 8),
    "partly equal": (4, 8, 8),
    "fine": (2, 4, 8),
    "one wide step": (4, 32, 32),
}


@pytest.mark.parametrize("upsample", ["bilinear", "nearest"])
@pytest.mark.parametrize("strides", STRIDES.values(), ids=STRIDES)
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (97, 131)])
def test_any_strides_and_sizes(size, strides, upsample):
    fused = head(upsample=upsample)
    assert fused(features(size, strides), size).shape == (2, CLASSES, *size)
    losses = fused.loss(features(size, strides), samples(size), {})
    assert torch.isfinite(losses["loss_ce"])
    metas = [sample.metainfo for sample in samples(size)]
    assert fused.predict(features(size, strides), metas, {}).shape == (2, CLASSES, *size)


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 7])
def test_any_number_of_levels(levels):
    channels = (3,) * levels
    inputs = features((64, 64), [2**i for i in range(levels)], channels)
    assert head(channels)(inputs, (64, 64)).shape == (2, CLASSES, 64, 64)


def test_one_level_may_be_given_as_numbers():
    single = SkipFusionHead(in_channels=6, in_index=2, num_classes=CLASSES)
    inputs = features((64, 64), (8, 16, 32))
    assert single(inputs, (64, 64)).shape == (2, CLASSES, 64, 64)


def test_levels_are_chosen_by_index_finest_first():
    """A backbone that returns its coarsest level first."""
    fused = head(in_index=(2, 1, 0))
    fine_first = features((64, 64), (8, 16, 32))
    same = head()
    same.load_state_dict(fused.state_dict())
    assert torch.equal(fused(fine_first[::-1], (64, 64)), same(fine_first, (64, 64)))


def test_bilinear_on_an_unknown_backbone_is_the_hosts_resize():
    fused = head().double()
    inputs = [level.double() for level in features((97, 131), (8, 16, 32))]
    scores = [score(level) for score, level in zip(fused.score, inputs, strict=True)]

    def resize(x, size):
        return functional.interpolate(x, size, mode="bilinear", align_corners=False)

    expected = resize(scores[2], scores[1].shape[2:]) + scores[1]
    expected = resize(expected, scores[0].shape[2:]) + scores[0]
    torch.testing.assert_close(
        fused(inputs, (97, 131)), resize(expected, (97, 131)), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("size", [(64, 64), (97, 131)])
def test_deconv_starts_as_bilinear_by_the_stride(size):
    learned = head(upsample="deconv", strides=(4, 8, 16)).double()
    inputs = [level.double() for level in features(size, (4, 8, 16))]
    scores = [score(level) for score, level in zip(learned.score, inputs, strict=True)]

    def up(x, factor, size):
        x = functional.interpolate(x, scale_factor=factor, mode="bilinear")
        return x[..., : size[0], : size[1]]

    expected = up(scores[2], 2, scores[1].shape[2:]) + scores[1]
    expected = up(expected, 2, scores[0].shape[2:]) + scores[0]
    torch.testing.assert_close(learned(inputs, size), up(expected, 4, size), rtol=0, atol=1e-10)


def test_nearest_takes_the_nearest():
    """Worked by hand: one level, 1 x 4, upsampled by 2 and by 3 and to 6 of 4."""
    single = head((1,), upsample="nearest", num_classes=3)
    torch.nn.init.ones_(single.score[0].weight)
    level = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
    for width, expected in {
        8: [1, 1, 2, 2, 3, 3, 4, 4],
        12: [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4],
        6: [1, 2, 2, 3, 4, 4],  # at -1/6, 1/2, 7/6, 11/6, 5/2, 19/6: halves round up
    }.items():
        assert single((level,), (1, width))[0, 0, 0].tolist() == expected


def test_dropout_of_the_head():
    inputs = features((64, 64), (8, 16, 32))
    dropping = head(dropout_ratio=0.99).train()
    zeros = (dropping(inputs, (64, 64)) == 0).float().mean()
    assert zeros > 0.5
    assert (dropping.eval()(inputs, (64, 64)) == 0).float().mean() < 0.01


def test_predict_goes_by_the_window_or_the_padded_size():
    """On a plain tuple the size comes from the host's records, as for its own heads."""
    fused, inputs = head(), features((64, 64), (8, 16, 32))
    padded = dict(img_shape=(50, 60), pad_shape=(64, 64), ori_shape=(50, 60))
    assert fused.predict(inputs, [padded], {}).shape[2:] == (64, 64)
    window = dict(padded, img_shape=torch.Size((48, 32)))
    assert fused.predict(inputs, [window], {}).shape[2:] == (48, 32)
    assert fused.predict(inputs, [dict(img_shape=(50, 60))], {}).shape[2:] == (50, 60)


def test_coarsest_first_is_refused():
    for upsample in ("bilinear", "nearest", "deconv"):
        backwards = head(in_channels=(6, 5, 4), in_index=(2, 1, 0), upsample=upsample)
        with pytest.raises(UserError, match="finest first"):
            backwards(features((64, 64), (8, 16, 32)), (64, 64))
    for padding in ("same", "reference"):
        backwards = segmentor(vgg(padding), in_channels=(8, 32, 16), in_index=(2, 1, 0))
        with pytest.raises(UserError, match="finest first"):
            backwards(torch.randn(1, 3, 64, 96))


def test_deconv_learns():
    learned = head(upsample="deconv")
    learned.loss(features((64, 64), (8, 16, 32)), samples((64, 64)), {})["loss_ce"].backward()
    assert all(up.deconv.weight.grad.abs().sum() > 0 for up in learned.upscore)


@pytest.mark.parametrize("size", [(97, 97), (64, 96)])
@pytest.mark.parametrize("strides", [(8, 8, 8), (4, 8, 16), (2, 4, 32)], ids=str)
def test_deconv_of_other_strides_names_them(strides, size):
    inputs = features(size, strides)
    with pytest.raises(UserError) as error:
        head(upsample="deconv")(inputs, size)
    assert f"set strides={strides}" in str(error.value)
    learned = head(upsample="deconv", strides=strides)
    assert learned(inputs, size).shape == (2, CLASSES, *size)


def test_deconv_of_no_whole_factor_names_another_upsampling():
    """ICNet's 9 x 9 of 128 x 128 pixels."""
    inputs = tuple(torch.randn(2, c, side, side) for c, side in ((4, 16), (5, 9), (6, 4)))
    with pytest.raises(UserError, match="set upsample='bilinear'"):
        head(upsample="deconv")(inputs, (128, 128))
    assert head()(inputs, (128, 128)).shape == (2, CLASSES, 128, 128)


def test_one_map_that_is_in_no_tuple():
    """DDRNet trains with two levels and predicts with the second alone."""
    single = head((6,), in_index=(1,))
    in_training = features((64, 64), (8, 8), (4, 6))
    assert torch.equal(single(in_training[1], (64, 64)), single(in_training, (64, 64)))
    with pytest.raises(UserError, match="returns only 1 level"):
        head()(in_training[1], (64, 64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(in_index=(0, 1)), "must name the same levels"),
        (dict(in_channels=(), in_index=()), "at least one"),
        (dict(upsample="cubic"), "upsample 'cubic'"),
        (dict(strides=(8, 16)), "one for each of 3 levels"),
        (dict(strides=(8, 12, 32)), "must each be a multiple"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        head(**settings)


def test_features_other_than_promised():
    with pytest.raises(ValueError, match=r"set in_channels=\(4, 9, 6\)"):
        head()(features((64, 64), (8, 16, 32), (4, 9, 6)))
    with pytest.raises(ValueError, match="returns only 2 levels"):
        head()(features((64, 64), (8, 16, 32))[:2])


def test_label_of_another_size_than_the_image():
    maps = ConvolutionalizedVGG(base_channels=1, fc_channels=1).maps
    known = Features(features((64, 64), (8, 16, 32)), maps, (64, 64), zero_border=False)
    with pytest.raises(ValueError, match="labels must be transformed with their images"):
        head().loss(known, samples((32, 32)), {})


def test_score_layers_start_at_zero():
    made = SkipFusionHead((4, 5, 6), (0, 1, 2), CLASSES)
    for score in made.score:
        torch.nn.init.normal_(score.weight)
    made.init_weights()
    assert made(features((64, 64), (8, 16, 32)), (64, 64)).abs().max() == 0


def test_loss_is_averaged_over_valid_pixels():
    fused = head()
    inputs = features((64, 64), (8, 16, 32))
    label = torch.full((1, 64, 64), 255)
    label[:, 10:20, 10:20] = 1
    loss = fused.loss(inputs, samples((64, 64), label), {})["loss_ce"]
    expected = functional.cross_entropy(
        fused(inputs, (64, 64)), label.expand(2, 64, 64), ignore_index=255
    )
    torch.testing.assert_close(loss, expected)


def test_nothing_but_void_is_no_loss():
    fused = head()
    label = torch.full((1, 64, 64), 255)
    loss = fused.loss(features((64, 64), (8, 16, 32)), samples((64, 64), label), {})["loss_ce"]
    loss.backward()
    assert loss == 0
    assert all(torch.isfinite(p.grad).all() for p in fused.parameters())


def test_several_losses():
    losses = head(
        loss_decode=[
            dict(type="CrossEntropyLoss", loss_name="loss_ce", avg_non_ignore=True),
            dict(type="DiceLoss", loss_name="loss_dice"),
        ]
    ).loss(features((64, 64), (8, 16, 32)), samples((64, 64)), {})
    assert {"loss_ce", "loss_dice", "acc_seg"} <= set(losses)


def test_one_output_channel_for_two_classes():
    model = segmentor(vgg(), num_classes=2, out_channels=1, threshold=0.5)
    label = torch.randint(0, 2, (1, 64, 96))
    losses = model.loss(torch.randn(2, 3, 64, 96), samples((64, 96), label))
    assert torch.isfinite(losses["decode.loss_ce"])
    found = model.eval().predict(torch.randn(2, 3, 64, 96), samples((64, 96), label))
    assert set(found[0].pred_sem_seg.data.unique().tolist()) <= {0, 1}


def vgg(padding="same") -> dict:
    return dict(
        type="ConvolutionalizedVGG", depth=11, padding=padding, base_channels=4, fc_channels=8
    )


def segmentor(backbone: dict, auxiliary_head=None, test_cfg=None, **head_settings):
    """A model of the host with our head, by default as it fits ``vgg()``."""
    settings = dict(in_channels=(16, 32, 8), in_index=(0, 1, 2), num_classes=CLASSES)
    model = MODELS.build(
        ConfigDict(
            type="EncoderDecoder",
            data_preprocessor=dict(type="SegDataPreProcessor", size=(64, 64)),
            backbone=backbone,
            decode_head=dict(type="SkipFusionHead", **(settings | head_settings)),
            auxiliary_head=auxiliary_head,
            test_cfg=test_cfg or dict(mode="whole"),
        )
    )
    model.init_weights()
    return model


@pytest.mark.parametrize("padding", ["same", pytest.param("reference", marks=pytest.mark.slow)])
def test_compiled_is_the_same(padding):
    """Traced by torch.compile and run without generated code, at two sizes."""
    model = segmentor(vgg(padding)).eval()
    for score in model.decode_head.score:
        torch.nn.init.normal_(score.weight)
    compiled = torch.compile(model, backend="aot_eager")
    for size in ((64, 96), (70, 50)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), model(image))


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize(
    "test_cfg",
    [
        dict(mode="whole"),
        dict(mode="slide", crop_size=(48, 48), stride=(32, 32)),
    ],
)
def test_the_whole_segmentor(padding, test_cfg):
    """With an auxiliary head of ours and one of the host's."""
    auxiliary_heads = [
        dict(type="SkipFusionHead", in_channels=32, in_index=1, num_classes=CLASSES),
        dict(
            type="FCNHead",
            in_channels=32,
            in_index=1,
            channels=8,
            num_convs=1,
            num_classes=CLASSES,
        ),
    ]
    model = segmentor(vgg(padding), auxiliary_heads, test_cfg)
    size = (75, 101)
    losses = model.loss(torch.randn(2, 3, *size), samples(size))
    assert {"decode.loss_ce", "aux_0.loss_ce", "aux_1.loss_ce", "decode.acc_seg"} <= set(losses)
    predictions = model.eval().predict(torch.randn(2, 3, *size), samples(size))
    assert predictions[0].pred_sem_seg.data.shape == (1, *size)
    assert model(torch.randn(2, 3, *size), mode="tensor").shape == (2, CLASSES, *size)


# --- at once, and AlexNet's odd kernels --------------------------------------------------------


def test_scale_is_applied_before_the_score_layers():
    inputs, scale = features((64, 64), (8, 16, 32)), (0.5, 0.25, 1.0)
    scaled, plain = head(scale=scale), head()
    plain.load_state_dict(
        {k: v for k, v in scaled.state_dict().items() if k != "level_scale"}, strict=True
    )
    by_hand = [level * factor for level, factor in zip(inputs, scale, strict=True)]
    torch.testing.assert_close(scaled(inputs, (64, 64)), plain(by_hand, (64, 64)))
    assert not torch.allclose(scaled(inputs, (64, 64)), plain(inputs, (64, 64)))


def test_scale_is_neither_trained_nor_forgotten():
    scaled = head(scale=(0.0001, 0.01, 1.0))
    assert not any("scale" in name for name, _ in scaled.named_parameters())
    stored = scaled.state_dict()["level_scale"]
    torch.testing.assert_close(stored, torch.tensor([0.0001, 0.01, 1.0]))
    for half in (scaled.half().state_dict(), scaled.bfloat16().state_dict()):
        head(scale=(0.0001, 0.01, 1.0)).load_state_dict(half)
    copy.deepcopy(scaled).load_state_dict(scaled.state_dict())
    pickle.loads(pickle.dumps(scaled)).load_state_dict(scaled.state_dict())


@pytest.mark.parametrize(
    ("stored", "own"),
    [((0.0001, 0.01, 1.0), None), (None, (0.0001, 0.01, 1.0)), ((0.1, 0.01, 1.0), (0.1, 0.1, 1.0))],
)
def test_a_checkpoint_of_another_scale_is_refused(stored, own):
    with pytest.raises(UserError, match=r"set model.decode_head.scale="):
        head(scale=own).load_state_dict(head(scale=stored).state_dict(), strict=False)
    # A checkpoint without such a head has nothing to contradict.
    head(scale=own).load_state_dict({}, strict=False)


@pytest.mark.parametrize("setting", ["scale", "strides", "kernels"])
def test_one_number_for_each_level(setting):
    with pytest.raises(UserError, match=rf"{setting} \(8, 16\) must have one for each of 3 levels"):
        head(**{setting: (8, 16)})


@pytest.mark.parametrize("padding", ["same", "reference"])
def test_odd_kernels_where_levels_lie_on_pixels(padding):
    """AlexNet at strides 8, 16, 32: learned kernels start as what the fixed ones do."""
    torch.manual_seed(0)
    backbone = ConvolutionalizedAlexNet(base_channels=4, fc_channels=8, padding=padding)
    backbone.init_weights()
    backbone.double().eval()
    fixed = head((12, 32, 8)).double()
    learned = head((12, 32, 8), upsample="deconv", kernels=(15, 3, 3)).double()
    learned.load_state_dict(fixed.state_dict(), strict=False)
    image = torch.randn(1, 3, 97, 131, dtype=torch.float64)
    with torch.no_grad():
        found, expected = learned(backbone(image)), fixed(backbone(image))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    with pytest.raises(UserError, match=r"kernels=\(...\) of an odd or even size"):
        head((12, 32, 8), upsample="deconv").double()(backbone(image))


def test_a_learned_kernel_in_a_checkpoint_is_used_and_fixed():
    learned, fixed = head(upsample="deconv"), head()
    for upsampling in learned.upscore:
        torch.nn.init.normal_(upsampling.deconv.weight)
    inputs = features((64, 64), (8, 16, 32))
    assert not torch.allclose(fixed(inputs, (64, 64)), learned(inputs, (64, 64)))
    fixed.load_state_dict(learned.state_dict(), strict=True)
    torch.testing.assert_close(fixed(inputs, (64, 64)), learned(inputs, (64, 64)))
    assert not any(up.deconv.weight.requires_grad for up in fixed.upscore)
    # Nor are they left behind for the next checkpoint, which has none.
    plain = head()
    fixed.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(fixed(inputs, (64, 64)), plain(inputs, (64, 64)))
    # Where they are to be trained they are.
    trained = head(upsample="deconv")
    trained.load_state_dict(learned.state_dict(), strict=True)
    assert all(up.deconv.weight.requires_grad for up in trained.upscore)
