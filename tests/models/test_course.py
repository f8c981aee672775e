"""The FCN-8 of courses, as TensorFlow computes it, against ``upsample="conv2d_transpose"``.

The reference is written from TensorFlow's definitions alone: 'SAME' puts the odd one of its zeros
at the end, and conv2d_transpose is the gradient of conv2d. Tolerance: 1e-10 in float64 leaves room
for another order of summation, no more.
"""

import pytest
import torch
from networks import build, parameters, pictures, relative_error
from torch import Tensor
from torch.nn import functional

CLASSES = 7
# 160 x 576 is the size of KITTI's exercise, 224 x 224 that of MIT's. Of 104 x 136 the last pools
# leave a row and a column over.
SIZES = [(160, 576), (224, 224), (104, 136)]
MISTAKES = ["average pooling", "crop moved by one", "no bias", "border repeated"]


def same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Padded as TensorFlow's 'SAME', for ceil(size / stride) outputs."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads, value=value)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    return functional.conv2d(same(x, weight.shape[2], stride), weight, bias, stride)


def conv2d_transpose(x: Tensor, weight: Tensor, bias: Tensor, like: Tensor, stride: int) -> Tensor:
    """To the height and width of ``like``; ``weight`` is in x out x kernel x kernel."""
    shape = (len(x), weight.shape[1], *like.shape[2:])
    image = torch.zeros(shape, dtype=x.dtype, requires_grad=True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(conv2d(image, weight, stride=stride), image, x)
    return gradient + bias[:, None, None]


def exercise(image: Tensor, weights: dict[str, Tensor], mistake: str = "") -> Tensor:
    """Scores N x classes x H x W: VGG16, 1x1 score layers, kernels 4, 4 and 16, tf.add."""

    def layer(x: Tensor, name: str) -> Tensor:
        return conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def up(x: Tensor, number: int, like: Tensor, stride: int) -> Tensor:
        weight, bias = weights[f"up{number}.weight"], weights[f"up{number}.bias"]
        if mistake == "no bias":
            bias = torch.zeros_like(bias)
        scores = conv2d_transpose(x, weight, bias, like, stride)
        return scores.roll(1, dims=2) if mistake == "crop moved by one" else scores

    x, pools = image, []
    for stage, convs in enumerate((2, 2, 3, 3, 3), start=1):
        for conv in range(1, convs + 1):
            x = layer(x, f"conv{stage}_{conv}").relu()
        if mistake == "average pooling":
            x = functional.avg_pool2d(x, 2, ceil_mode=True)
        else:
            x = functional.max_pool2d(same(x, 2, 2, value=-torch.inf), 2)
        pools.append(x)
    _, _, pool3, pool4, _ = pools
    fc7 = layer(layer(x, "fc6").relu(), "fc7").relu()
    score4, score3 = layer(pool4, "score_pool4"), layer(pool3, "score_pool3")
    scores = torch.add(up(layer(fc7, "score_fr"), 2, score4, 2), score4)
    scores = torch.add(up(scores, 1, score3, 2), score3)
    return up(scores, 0, image, 8)


def compare(size: tuple[int, int], mistake: str = "") -> tuple[Tensor, Tensor]:
    """Our scores and the exercise's, with random weights, kernels and biases throughout."""
    kind = "deconv" if mistake == "border repeated" else "conv2d_transpose"
    backbone, head = build("fcn8s", padding="same", upsample=kind, classes=CLASSES)
    weights = parameters("fcn8s", backbone, head)
    for number, upscore in enumerate(head.upscore):
        torch.nn.init.normal_(upscore.deconv.weight, std=0.1)
        weights[f"up{number}.weight"] = upscore.deconv.weight.data
        weights[f"up{number}.bias"] = torch.zeros(CLASSES, dtype=torch.float64)
        if kind == "conv2d_transpose":
            weights[f"up{number}.bias"] = torch.nn.init.normal_(upscore.deconv.bias, std=5).data
    image = pictures(1, size)
    with torch.no_grad():
        return head(backbone(image)), exercise(image, weights, mistake)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_scores_are_those_of_the_exercise(size):
    found, expected = compare(size)
    assert found.shape == (1, CLASSES, *size)
    assert relative_error(found, expected) <= 1e-10


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_shows(mistake):
    assert relative_error(*compare((104, 136), mistake)) > 1e-3


def test_a_size_that_8_does_not_divide_is_another_network():
    """There TensorFlow crops from up to 3 pixels further on; ours lie where the pixels do."""
    found, expected = compare((97, 131))
    assert relative_error(found, expected) > 1e-3
    # Of the 7 and 5 pixels that 97 and 131 lack to a multiple of 8 half are cut from the start.
    moved = (..., slice(3, None), slice(2, None))
    kept = (..., slice(None, -3), slice(None, -2))
    assert relative_error(found[moved], expected[kept]) <= 1e-10


def test_deconv_differs_near_the_border_alone():
    """As docs/from_course.md has it: 28 pixels at each side."""
    found, expected = compare((160, 576), "border repeated")
    inner = (..., slice(28, -28), slice(28, -28))
    assert relative_error(found[inner], expected[inner]) <= 1e-10
    edge = (..., slice(27, -27), slice(28, -28))
    assert relative_error(found[edge], expected[edge]) > 1e-6
