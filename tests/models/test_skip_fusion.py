"""The decode head on any levels: fusing, placing, its settings and its checkpoints."""

import copy
import pickle

import pytest
import torch
from models.small import CLASSES, features, labelled, segmentor
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.models import (
    ConvolutionalizedAlexNet,
    ConvolutionalizedVGG,
    SkipFusionHead,
    upsample,
)
from fcn_plugin.models.features import Features
from fcn_plugin.models.upsample import Bilinear, Placement

SIZE = (64, 64)
AT_ONCE = (0.0001, 0.01, 1.0)


def head(channels=(4, 5, 6), **settings) -> SkipFusionHead:
    settings = dict(in_channels=channels, in_index=range(len(channels))) | settings
    made = SkipFusionHead(**dict(num_classes=CLASSES) | settings)
    made.init_weights()
    for score in made.score:
        torch.nn.init.normal_(score.weight)
    return made


def test_levels_are_chosen_by_index_finest_first():
    """A backbone that returns its coarsest level first; one level as numbers."""
    fused, same = head(in_index=(2, 1, 0)), head()
    same.load_state_dict(fused.state_dict())
    inputs = features(SIZE)
    assert torch.equal(fused(inputs[::-1], SIZE), same(inputs, SIZE))
    single = SkipFusionHead(in_channels=6, in_index=2, num_classes=CLASSES)
    assert single(inputs, SIZE).shape == (2, CLASSES, *SIZE)


def test_one_map_that_is_in_no_tuple():
    """DDRNet trains with two levels and predicts with the second alone."""
    single, in_training = head((6,), in_index=(1,)), features(SIZE, (8, 8), (4, 6))
    assert torch.equal(single(in_training[1], SIZE), single(in_training, SIZE))
    with pytest.raises(UserError, match="returns only 1 level"):
        head()(in_training[1], SIZE)


def test_bilinear_on_an_unknown_backbone_is_mmsegs_resize():
    """Equal strides too; without the image's size, scores of the finest level's."""
    made, size = head().double(), (97, 131)
    inputs = features(size, (8, 16, 16), dtype=torch.float64)
    one, two, three = (score(level) for score, level in zip(made.score, inputs, strict=True))

    def resized(x, size):
        return functional.interpolate(x, size, mode="bilinear", align_corners=False)

    fused = resized(three + two, one.shape[2:]) + one
    torch.testing.assert_close(made(inputs), fused, rtol=0, atol=1e-10)
    torch.testing.assert_close(made(inputs, size), resized(fused, size), rtol=0, atol=1e-10)


@pytest.mark.parametrize("zero_border", [False, True])
def test_long_axes_are_interpolated_piece_by_piece(monkeypatch, zero_border):
    """With small matrices; also where the fine grid lies beyond the coarse one."""
    x = torch.randn(1, 2, 9, 13, dtype=torch.float64)
    rows, cols = Placement(7.5, 3.2, 2, 61), Placement(8, -20, 0, 140)
    whole = Bilinear()(x, rows, cols, zero_border)
    monkeypatch.setattr(upsample, "PIECE", 16)
    torch.testing.assert_close(Bilinear()(x, rows, cols, zero_border), whole, rtol=0, atol=1e-12)
    for dim, placement in ((-2, rows), (-1, cols)):
        sizes = [part.shape[dim] for _, part in placement.parts(x, dim)]
        assert len(sizes) == -(-placement.length // 16) and max(sizes) <= 4


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
    inputs, dropping = features(SIZE), head(dropout_ratio=0.99).train()
    assert (dropping(inputs, SIZE) == 0).float().mean() > 0.5
    assert (dropping.eval()(inputs, SIZE) == 0).float().mean() < 0.01


def test_predict_goes_by_the_window_or_the_padded_size():
    """On a plain tuple the size comes from the sample's metainfo, as in mmseg's heads."""
    fused, inputs = head(), features(SIZE)
    padded = dict(img_shape=(50, 60), pad_shape=SIZE, ori_shape=(50, 60))
    assert fused.predict(inputs, [padded], {}).shape[2:] == SIZE
    window = dict(padded, img_shape=torch.Size((48, 32)))
    assert fused.predict(inputs, [window], {}).shape[2:] == (48, 32)
    assert fused.predict(inputs, [dict(img_shape=(50, 60))], {}).shape[2:] == (50, 60)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (dict(in_index=(0, 1)), "must name the same levels"),
        (dict(in_channels=(), in_index=()), "at least one"),
        (dict(upsample="cubic"), "upsample 'cubic', must be one of"),
        (dict(scale=(8, 16)), r"scale \(8, 16\) must have one for each of 3 levels"),
        (dict(strides=(8, 16)), r"strides \(8, 16\) must have one for each of 3 levels"),
        (dict(kernels=(8, 16)), r"kernels \(8, 16\) must have one for each of 3 levels"),
        (dict(strides=(8, 12, 32)), "must each be a multiple"),
        (dict(strides=(0, 8, 16)), "must each be a multiple"),
    ],
)
def test_wrong_settings(settings, named):
    with pytest.raises(UserError, match=f"^SkipFusionHead: .*{named}"):
        head(**settings)


def test_features_other_than_promised():
    with pytest.raises(UserError, match=r"set in_channels=\(4, 9, 6\)"):
        head()(features(SIZE, channels=(4, 9, 6)))
    with pytest.raises(UserError, match="returns only 2 levels"):
        head()(features(SIZE)[:2])


@pytest.mark.parametrize("kind", ["bilinear", "nearest", "deconv"])
def test_coarsest_first_is_refused(kind):
    settings = dict(in_channels=(6, 5, 4), in_index=(2, 1, 0), upsample=kind)
    with pytest.raises(UserError, match="finest first"):
        head(**settings)(features(SIZE), SIZE)
    for padding in ("same", "reference"):  # known by their maps, not by their sizes
        backbone = ConvolutionalizedVGG(11, padding=padding, base_channels=1, fc_channels=4)
        backwards = head((4, 8, 4), in_index=(2, 1, 0), upsample=kind)
        with pytest.raises(UserError, match="finest first"):
            backwards(backbone(torch.randn(1, 3, 64, 96)))


def test_label_of_another_size_than_the_image():
    maps = ConvolutionalizedVGG(base_channels=1, fc_channels=1).maps
    known = Features(features(SIZE), maps, SIZE, zero_border=False)
    with pytest.raises(UserError, match="labels must be transformed with their images"):
        head().loss(known, labelled((32, 32)), {})


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
        levels = backbone(image)
        torch.testing.assert_close(learned(levels), fixed(levels), rtol=0, atol=1e-10)
    with pytest.raises(UserError, match=r"kernels=\(...\) of an odd or even size"):
        head((12, 32, 8), upsample="deconv").double()(levels)


# --- training ------------------------------------------------------------------------------------


def test_score_layers_start_at_zero_and_learn():
    made = SkipFusionHead((4, 5, 6), (0, 1, 2), CLASSES, upsample="deconv")
    made.init_weights()
    assert made(features(SIZE), SIZE).abs().max() == 0
    learned = head(upsample="deconv")
    learned.loss(features(SIZE), labelled(SIZE), {})["loss_ce"].backward()
    assert all(up.deconv.weight.grad.abs().sum() > 0 for up in learned.upscore)


def test_loss_is_averaged_over_valid_pixels():
    fused, inputs = head(), features(SIZE)
    label = torch.full((1, *SIZE), 255)
    void = fused.loss(inputs, labelled(SIZE, label), {})["loss_ce"]
    void.backward()
    assert void == 0 and all(torch.isfinite(p.grad).all() for p in fused.parameters())
    label[:, 10:20, 10:20] = 1
    loss = fused.loss(inputs, labelled(SIZE, label), {})["loss_ce"]
    expected = functional.cross_entropy(
        fused(inputs, SIZE), label.expand(2, *SIZE), ignore_index=255
    )
    torch.testing.assert_close(loss, expected)


def test_several_losses():
    cross_entropy = dict(type="CrossEntropyLoss", loss_name="loss_ce", avg_non_ignore=True)
    several = head(loss_decode=[cross_entropy, dict(type="DiceLoss", loss_name="loss_dice")])
    losses = several.loss(features(SIZE), labelled(SIZE), {})
    assert {"loss_ce", "loss_dice", "acc_seg"} <= set(losses)


def test_one_output_channel_for_two_classes():
    model = segmentor(head=dict(num_classes=2, out_channels=1, threshold=0.5))
    images, samples = torch.randn(2, 3, *SIZE), labelled(SIZE, torch.randint(0, 2, (1, *SIZE)))
    assert torch.isfinite(model.loss(images, samples)["decode.loss_ce"])
    predictions = model.eval().predict(images, samples)
    assert set(predictions[0].pred_sem_seg.data.unique().tolist()) <= {0, 1}


@pytest.mark.parametrize("padding", ["same", "reference"])
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_the_whole_segmentor(padding, mode):
    """With an auxiliary head of ours and one of mmseg's."""
    common = dict(in_channels=32, in_index=1, num_classes=CLASSES)
    model = segmentor(
        "EncoderDecoder",
        padding,
        auxiliary_head=[
            dict(type="SkipFusionHead", **common),
            dict(type="FCNHead", channels=8, num_convs=1, **common),
        ],
        test_cfg=dict(mode=mode, crop_size=(48, 48), stride=(32, 32)),
    )
    size = (75, 101)
    losses = model.loss(torch.randn(2, 3, *size), labelled(size))
    assert {"decode.loss_ce", "aux_0.loss_ce", "aux_1.loss_ce", "decode.acc_seg"} <= set(losses)
    predictions = model.eval().predict(torch.randn(2, 3, *size), labelled(size))
    assert predictions[0].pred_sem_seg.data.shape == (1, *size)
    assert model(torch.randn(2, 3, *size), mode="tensor").shape == (2, CLASSES, *size)


# --- scales and checkpoints ----------------------------------------------------------------------


def test_scale_is_applied_before_the_score_layers():
    inputs, scale = features(SIZE), (0.5, 0.25, 1.0)
    scaled, plain = head(scale=scale), head()
    plain.load_state_dict({k: v for k, v in scaled.state_dict().items() if k != "level_scale"})
    by_hand = [level * factor for level, factor in zip(inputs, scale, strict=True)]
    torch.testing.assert_close(scaled(inputs, SIZE), plain(by_hand, SIZE))
    assert not torch.allclose(scaled(inputs, SIZE), plain(inputs, SIZE))


def test_scale_is_neither_trained_nor_forgotten():
    scaled = head(scale=AT_ONCE)
    assert not any("scale" in name for name, _ in scaled.named_parameters())
    torch.testing.assert_close(scaled.state_dict()["level_scale"], torch.tensor(AT_ONCE))
    for half in (scaled.half().state_dict(), scaled.bfloat16().state_dict()):
        head(scale=AT_ONCE).load_state_dict(half)
    for copied in (copy.deepcopy(scaled), pickle.loads(pickle.dumps(scaled))):
        copied.load_state_dict(scaled.state_dict())


@pytest.mark.parametrize(
    ("stored", "own"), [(AT_ONCE, None), (None, AT_ONCE), ((0.1, 0.01, 1.0), (0.1, 0.1, 1.0))]
)
def test_a_checkpoint_of_another_scale_is_refused(stored, own):
    with pytest.raises(UserError, match=r"set model.decode_head.scale="):
        head(scale=own).load_state_dict(head(scale=stored).state_dict(), strict=False)
    # A checkpoint without such a head has nothing to contradict.
    head(scale=own).load_state_dict({}, strict=False)


def test_a_learned_kernel_in_a_checkpoint_is_used_and_fixed():
    learned, fixed = head(upsample="deconv"), head()
    for upscore in learned.upscore:
        torch.nn.init.normal_(upscore.deconv.weight)
    inputs = features(SIZE)
    assert not torch.allclose(fixed(inputs, SIZE), learned(inputs, SIZE))
    fixed.load_state_dict(learned.state_dict(), strict=True)
    torch.testing.assert_close(fixed(inputs, SIZE), learned(inputs, SIZE))
    assert not any(up.deconv.weight.requires_grad for up in fixed.upscore)
    # Nor are they left behind for the next checkpoint, which has none.
    plain = head()
    fixed.load_state_dict(plain.state_dict(), strict=True)
    torch.testing.assert_close(fixed(inputs, SIZE), plain(inputs, SIZE))
    # Where they are to be trained they are.
    trained = head(upsample="deconv")
    trained.load_state_dict(learned.state_dict(), strict=True)
    assert all(up.deconv.weight.requires_grad for up in trained.upscore)
