"""The decode head on any levels: fusing, placing, its settings and its checkpoints."""

import re
from fractions import Fraction

import pytest
import torch
from models.small import CLASSES, backbone, features, labelled
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap
from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead, upsample
from fcn_plugin.models.features import Features
from fcn_plugin.models.upsample import Bilinear, Placement, new_upsampling, placements

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
    """A backbone that returns its coarsest level first; one level as numbers, or in no tuple, as
    DDRNet predicts with the second of the two that it trains with."""
    fused, same = head(in_index=(2, 1, 0)), head()
    same.load_state_dict(fused.state_dict())
    inputs = features(SIZE)
    assert torch.equal(fused(inputs[::-1], SIZE), same(inputs, SIZE))
    single = head(in_channels=6, in_index=2)
    scores = single(inputs, SIZE)
    assert scores.shape == (2, CLASSES, *SIZE) and torch.equal(single(inputs[2], SIZE), scores)
    with pytest.raises(UserError, match="returns only 1 level"):
        head()(inputs[1], SIZE)


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


@pytest.mark.parametrize("kind", ["bilinear", "nearest"])
def test_fusing_without_the_images_size(kind):
    """Scores of the finest level's size; halves, at 1/2 and 5/2 from 6 to 4 pixels, round up."""
    made, inputs = head(upsample=kind), features((4, 48), (1, 8, 12))
    one, two, three = (score(level) for score, level in zip(made.score, inputs, strict=True))
    if kind == "nearest":
        fused = three[..., [0, 1, 1, 2, 3, 3]] + two
        fused = fused.repeat_interleave(8, -1).expand(*one.shape) + one
    else:
        options = dict(mode="bilinear", align_corners=False)
        fused = functional.interpolate(three, two.shape[2:], **options) + two
        fused = functional.interpolate(fused, one.shape[2:], **options) + one
    torch.testing.assert_close(made(inputs), fused)


@pytest.mark.parametrize(
    ("kind", "start", "length"), [("nearest", 9, 15), ("bilinear", 7, 19), ("deconv", 7, 19)]
)
def test_a_grid_is_cropped_to_the_reach_of_coarser_pixels(kind, start, length):
    """Coarse pixels at 10, 14, 18, 22: half a step further, or less than a whole one."""
    grids = [(AxisMap(), 99), (AxisMap(Fraction(2)), 40), (AxisMap(Fraction(8), Fraction(20)), 4)]
    maps, sizes = zip(*grids, strict=True)
    upsamplings = [new_upsampling(kind, 1, factor) for factor in (2, 4)]
    (rows, cols), (down, _) = placements(
        [(side, side) for side in sizes], maps, upsamplings, crop_to_reach=True
    )
    assert rows == cols == Placement(4, 10, start, length)
    assert down == Placement(2, 2 * start, 0, 99)


def test_the_default_loss_is_the_mean_over_the_pixels_that_are_not_void():
    made, inputs, samples = head(), features(SIZE), labelled(SIZE, void=0.3)
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    expected = functional.cross_entropy(made(inputs, SIZE), labels, ignore_index=255)
    torch.testing.assert_close(made.loss(inputs, samples, None)["loss_ce"], expected)


def test_dropout_of_the_head():
    inputs, dropping = features(SIZE), head(dropout_ratio=0.99).train()
    assert (dropping(inputs, SIZE) == 0).float().mean() > 0.5
    assert (dropping.eval()(inputs, SIZE) == 0).float().mean() < 0.01


def test_predict_goes_by_the_window_or_the_padded_size():
    """On a plain tuple the size comes from the sample's metainfo, as in mmseg's heads."""
    fused, inputs = head(), features(SIZE)
    for meta, size in (
        (dict(img_shape=(50, 60), pad_shape=SIZE), SIZE),
        (dict(img_shape=torch.Size((48, 32)), pad_shape=SIZE), (48, 32)),
        (dict(img_shape=(50, 60)), (50, 60)),
    ):
        assert fused.predict(inputs, [meta], {}).shape[2:] == size


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (dict(in_index=(0, 1)), "must name the same levels"),
        (dict(in_channels=(), in_index=()), "at least one"),
        (dict(upsample="cubic"), "upsample 'cubic', must be one of"),
        (dict(scale=(8, 16)), r"scale \(8, 16\) must have one for each of 3 levels"),
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
    maps = ConvolutionalizedVGG(base_channels=1, fc_channels=1).maps
    known = Features(features(SIZE), maps, SIZE, zero_border=False)
    with pytest.raises(UserError, match="labels must be transformed with their images"):
        head().loss(known, labelled((32, 32)), {})


@pytest.mark.parametrize("kind", ["bilinear", "deconv"])
def test_coarsest_first_is_refused(kind):
    settings = dict(in_channels=(6, 5, 4), in_index=(2, 1, 0), upsample=kind)
    with pytest.raises(UserError, match="finest first"):
        head(**settings)(features(SIZE), SIZE)
    wider = tuple(torch.randn(2, c, *size) for c, size in ((4, (8, 8)), (5, (4, 9)), (6, (2, 4))))
    with pytest.raises(UserError, match="finest first"):
        head(upsample=kind)(wider)
    levels = backbone(depth=11, padding="reference")(torch.randn(1, 3, 64, 96))
    with pytest.raises(UserError, match="finest first"):  # known by their maps
        head((4, 16, 8), in_index=(2, 1, 0), upsample=kind)(levels)


@pytest.mark.parametrize("size", [(97, 97), (64, 96)])
@pytest.mark.parametrize("strides", [(8, 8, 8), (4, 8, 16), (2, 4, 32), (8, 16, 64)], ids=str)
def test_deconv_of_other_strides_names_them(strides, size):
    inputs = features(size, strides)
    with pytest.raises(UserError, match=re.escape(f"set strides={strides}")):
        head(upsample="deconv")(inputs, size)
    learned = head(upsample="deconv", strides=strides)
    assert learned(inputs, size).shape == (2, CLASSES, *size)


def test_deconv_of_no_whole_factor_names_another_upsampling():
    """ICNet's 9 x 9 of 128 x 128 pixels; and half the factor, at a whole pixel."""
    inputs = tuple(torch.randn(2, c, side, side) for c, side in ((4, 16), (5, 9), (6, 4)))
    with pytest.raises(UserError, match="set upsample='bilinear'"):
        head(upsample="deconv")(inputs, (128, 128))
    assert head()(inputs, (128, 128)).shape == (2, CLASSES, 128, 128)
    half = Placement(2, 0.5, 0, 8)
    with pytest.raises(UserError, match=r"built for a factor of 4 .* upsample='bilinear'"):
        new_upsampling("deconv", 1, 4)(torch.ones(1, 1, 4, 4), half, half, False)


@pytest.mark.parametrize("padding", ["same", "reference"])
def test_odd_kernels_where_levels_lie_on_pixels(padding):
    """AlexNet at strides 8, 16, 32: learned kernels start as what the fixed ones do."""
    fixed = head((12, 32, 4)).double()
    learned = head((12, 32, 4), upsample="deconv", kernels=(15, 3, 3)).double()
    learned.load_state_dict(fixed.state_dict(), strict=False)
    alexnet = backbone("caffenet", padding=padding).double().eval()
    with torch.no_grad():
        levels = alexnet(torch.randn(1, 3, 97, 131, dtype=torch.float64))
        torch.testing.assert_close(learned(levels), fixed(levels), rtol=0, atol=1e-10)
    with pytest.raises(UserError, match=r"kernels=\(...\) of an odd or even size"):
        head((12, 32, 4), upsample="deconv").double()(levels)


def test_scale_is_neither_trained_nor_forgotten():
    scaled = head(scale=AT_ONCE)
    assert not any("scale" in name for name, _ in scaled.named_parameters())
    torch.testing.assert_close(scaled.state_dict()["level_scale"], torch.tensor(AT_ONCE))
    head(scale=AT_ONCE).load_state_dict(scaled.bfloat16().state_dict())


@pytest.mark.parametrize(
    ("stored", "own"), [(AT_ONCE, None), (None, AT_ONCE), ((0.1, 0.01, 1.0), (0.1, 0.1, 1.0))]
)
def test_a_checkpoint_of_another_scale_is_refused(stored, own):
    with pytest.raises(UserError, match=r"set model.decode_head.scale="):
        head(scale=own).load_state_dict(head(scale=stored).state_dict(), strict=False)
    # A checkpoint without such a head has nothing to contradict.
    head(scale=own).load_state_dict({}, strict=False)


@pytest.mark.parametrize("kind", ["deconv", "conv2d_transpose"])
def test_a_learned_kernel_in_a_checkpoint_is_used_and_fixed(kind):
    learned, fixed = head(upsample=kind), head()
    for parameter in learned.upscore.parameters():
        torch.nn.init.normal_(parameter)
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
    trained = head(upsample=kind)
    trained.load_state_dict(learned.state_dict(), strict=True)
    assert all(up.deconv.weight.requires_grad for up in trained.upscore)
    # The other kind is refused where they are to be trained, and replaces them where not.
    (other,) = {"deconv", "conv2d_transpose"} - {kind}
    with pytest.raises(UserError, match=rf"set model.decode_head.upsample={kind}\b"):
        head(upsample=other).load_state_dict(learned.state_dict(), strict=False)
    fixed.load_state_dict(head(upsample=other).state_dict(), strict=True)
    fixed.load_state_dict(learned.state_dict(), strict=True)
    torch.testing.assert_close(fixed(inputs, SIZE), learned(inputs, SIZE))
