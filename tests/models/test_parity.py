"""Layer by layer against the independent reference in tests/reference.py, in float64.

Tolerances: 1e-10 relative in float64 leaves room for another order of summation, no more; in
float32 a hundred-thousandth, as sums over 25,088 inputs lose two digits.
"""

import itertools

import pytest
import reference
import torch

from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead

LEVELS = {
    "fcn32s": {"fc7": 5},
    "fcn16s": {"pool4": 3, "fc7": 5},
    "fcn8s": {"pool3": 2, "pool4": 3, "fc7": 5},
}
CHANNELS = {"pool3": 16, "pool4": 32, "fc7": 24}
CLASSES = 5


def build(net: str, padding: str = "reference", dtype=torch.float64, upsample="bilinear"):
    names = LEVELS[net]
    backbone = ConvolutionalizedVGG(
        16, out_indices=tuple(names.values()), padding=padding, base_channels=4, fc_channels=24
    )
    head = SkipFusionHead(
        [CHANNELS[name] for name in names], range(len(names)), CLASSES, upsample=upsample
    )
    backbone.init_weights()
    for score in head.score:
        torch.nn.init.normal_(score.weight)
        torch.nn.init.normal_(score.bias)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.bias, std=0.1)
    return backbone.to(dtype).eval(), head.to(dtype).eval()


def parameters(backbone) -> dict:
    return {name.split(".", 2)[2]: tensor for name, tensor in backbone.state_dict().items()}


def relative_error(found, expected) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def compare(net, size, batch=1, dtype=torch.float64, mistake="", upsample="bilinear"):
    """Relative errors by level and of the final scores."""
    backbone, head = build(net, dtype=dtype, upsample=upsample)
    image = torch.randn(batch, 3, *size, dtype=dtype)
    with torch.no_grad():
        features = backbone(image)
        scores = head(features)
        expected = reference.backbone(image, parameters(backbone), mistake=mistake)
        weights = {n: (s.weight, s.bias) for n, s in zip(LEVELS[net], head.score, strict=True)}
        final = reference.head(expected, weights, size, mistake)["score"]
    errors = {}
    for name, level in zip(LEVELS[net], features, strict=True):
        same = level.shape == expected[name].shape
        errors[name] = relative_error(level, expected[name]) if same else float("inf")
    errors["score"] = relative_error(scores, final) if scores.shape == final.shape else float("inf")
    return errors


@pytest.mark.parametrize("net", LEVELS)
@pytest.mark.parametrize("size", [(1, 1), (33, 200), (97, 131), (375, 500)])
def test_every_level_and_the_scores_in_float64(net, size):
    errors = compare(net, size, batch=1 if size[0] > 100 else 2)
    assert max(errors.values()) < 1e-10, errors


def test_float32():
    errors = compare("fcn8s", (97, 131), dtype=torch.float32)
    assert max(errors.values()) < 1e-5, errors


def test_learned_upsampling_starts_as_the_published_one():
    errors = compare("fcn8s", (97, 131), upsample="deconv")
    assert max(errors.values()) < 1e-10, errors


@pytest.mark.parametrize("mistake", ["floor pooling", "transposed fc6", "crop moved by one"])
def test_negative_controls(mistake):
    assert compare("fcn8s", (97, 131), mistake=mistake)["score"] > 1e-3


@pytest.mark.parametrize("upsample", ["bilinear", "deconv"])
@pytest.mark.parametrize("size", [(1, 1), (64, 64), (97, 131)])
def test_same_padding_is_interpolation_by_the_stride(size, upsample):
    """Without the wide padding: upsampled by the exact factor, border continued, cut to size."""
    backbone, head = build("fcn8s", padding="same", upsample=upsample)
    image = torch.randn(2, 3, *size, dtype=torch.float64)

    def up(x, factor, size):
        x = torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")
        return x[..., : size[0], : size[1]]

    with torch.no_grad():
        features = backbone(image)
        levels = reference.backbone(image, parameters(backbone), pad=1)
        score = [score(levels[name]) for score, name in zip(head.score, CHANNELS, strict=True)]
        fused = up(score[2], 2, score[1].shape[2:]) + score[1]
        fused = up(fused, 2, score[0].shape[2:]) + score[0]
        assert relative_error(features[2], levels["fc7"]) < 1e-10
        assert relative_error(head(features), up(fused, 8, size)) < 1e-10


POOLS = [chosen for count in (1, 2, 3, 6) for chosen in itertools.combinations(range(6), count)]


@pytest.mark.parametrize("levels", POOLS, ids=str)
def test_any_levels_with_reference_padding(levels):
    """Against transposed convolutions on canvases placed by hand at half-pixel offsets.

    Level i lies at stride 2^(i+1) (fc7 as pool5), its first pixel at -99 + (stride - 1) / 2 in the
    image, fc7's 96 further on. An upsampled map begins (kernel - 1) / 2 before its first pixel.
    """
    backbone = ConvolutionalizedVGG(
        11, out_indices=levels, padding="reference", base_channels=2, fc_channels=4
    ).double()
    channels = [(2, 4, 8, 16, 16, 4)[level] for level in levels]
    head = SkipFusionHead(channels, range(len(levels)), CLASSES).double()
    for score in head.score:
        torch.nn.init.normal_(score.weight)
    size = (37, 50)
    with torch.no_grad():
        features = backbone.eval()(torch.randn(1, 3, *size, dtype=torch.float64))
        scores = [score(level) for score, level in zip(head.score, features, strict=True)]
        strides = [min(2 ** (level + 1), 32) for level in levels]
        firsts = [
            -99 + (stride - 1) / 2 + 96 * (level == 5)
            for stride, level in zip(strides, levels, strict=True)
        ]
        fused, stride, first = scores[-1], strides[-1], firsts[-1]
        for skip, finer, start in zip(scores[-2::-1], strides[-2::-1], firsts[-2::-1], strict=True):
            canvas, first = raised(fused, stride // finer, stride, first)
            # The part that both grids have.
            low = max(first, start)
            rows, cols = (
                int((min(first + n * finer, start + m * finer) - low) / finer)
                for n, m in zip(canvas.shape[2:], skip.shape[2:], strict=True)
            )
            a, b = int((low - first) / finer), int((low - start) / finer)
            fused = canvas[..., a : a + rows, a : a + cols] + skip[..., b : b + rows, b : b + cols]
            stride, first = finer, low
        canvas, first = raised(fused, stride, stride, first)
        expected = canvas[..., int(-first) : int(-first) + 37, int(-first) : int(-first) + 50]
        assert relative_error(head(features), expected) < 1e-10


def raised(x, factor, stride, first):
    """Upsampled by a transposed convolution, and where its first pixel then lies in the image."""
    if factor == 1:
        return x, first
    return reference.upscore(x, factor), first - stride / factor * (factor - 0.5)
