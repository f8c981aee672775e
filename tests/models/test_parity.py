"""Every layer of every network against the independent reference in tests/reference.py.

Errors are the largest difference of a layer's output relative to its largest value. Tolerances:
1e-10 in float64 leaves room for another order of summation, no more; 1e-5 in float32, as sums over
25,088 inputs lose two digits. Images have the range of mean-free pixels, so that the normalisation
of AlexNet and GoogLeNet has something to do.
"""

from collections.abc import Iterator
from functools import partial

import pytest
import reference
import torch
from networks import NETS, build, by_task, layer_name, parameters, pictures, relative_error
from torch import Tensor, nn

from fcn_plugin.models import ConvolutionalizedGoogLeNet
from fcn_plugin.models.googlenet import Inception

# Modules of GoogLeNet that are not called as in the Caffe files.
RENAMED = {
    "pool1": "pool1/3x3_s2",
    "norm1": "pool1/norm1",
    "norm2": "conv2/norm2",
    "pool2": "pool2/3x3_s2",
    "pool3": "pool3/3x3_s2",
    "pool4": "pool4/3x3_s2",
}


def observed(net, backbone, head) -> Iterator[tuple[nn.Module, str, bool]]:
    """Modules, and the layer in the Caffe files that each returns or, if True, is given."""
    for path, module in backbone.named_modules():
        if isinstance(module, nn.ReLU | nn.MaxPool2d | nn.LocalResponseNorm | Inception):
            name = layer_name(net, path)
            if isinstance(backbone, ConvolutionalizedGoogLeNet):
                name = RENAMED.get(name, name)
            yield module, f"{name}/output" if isinstance(module, Inception) else name, False
    streams = reference.NETS[net].streams
    upscores = reference.NETS[net].upscores
    for task, each in by_task(head).items():
        # Of streams ours have half the scores, and their sum.
        for name, score in zip(NETS[net].scores.values(), each.score, strict=True):
            if not streams:
                yield score, f"{name}{task}", False
            if NETS[net].scale and name != "score_fr":
                yield score, name.replace("score", "scale"), True
        given = "score_fused" if streams else None
        # The second stream's scores lie on the first's already.
        for upscore, module in zip(upscores, reversed(each.upscore[: len(upscores)]), strict=True):
            # The one to the image cuts as it goes: what it returns is the cropped score.
            yield module, f"{upscore.name if upscore.skip else 'score'}{task}", False
            if given:
                yield module, given, True
            given = f"fuse_{upscore.skip}{task}"


def layers(net, backbone, head, image) -> dict[str, Tensor]:
    """The outputs of our layers by the names of the Caffe files."""
    found: dict[str, Tensor] = {}

    def keep(name, module, inputs, output=None):
        assert name not in found, name
        # Copied, as the next layer may work in place.
        found[name] = (inputs[0] if output is None else output).clone()

    for module, name, given in observed(net, backbone, head):
        hook = module.register_forward_pre_hook if given else module.register_forward_hook
        hook(partial(keep, name))
    with torch.no_grad():
        head(backbone(image))
    return found


def compare(net, size, batch=2, dtype=torch.float64, mistake="", **settings) -> dict[str, float]:
    """Relative error by layer, in the network's order; every layer of the network has one."""
    backbone, head = build(net, dtype=dtype, **settings)
    image = pictures(batch, size, dtype, net)
    found = layers(net, backbone, head, image)
    with torch.no_grad():
        expected = reference.run(net, image, parameters(net, backbone, head), mistake)
    # What ours never has by itself, before or after a crop.
    *skips, last = reference.NETS[net].upscores
    inner = set()
    for task in by_task(head):
        inner |= {f"{last.name}{task}", *(f"score_{upscore.skip}{task}c" for upscore in skips)}
    for stream in reference.NETS[net].streams:
        inner |= {stream, f"score_fr{stream}"}
    assert set(expected) - set(found) == {"data", *inner}
    return {name: relative_error(found[name], expected[name]) for name in found}


def assert_agree(errors, tolerance):
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    assert not wrong, f"from layer {next(iter(wrong))} on: {wrong}"


@pytest.mark.parametrize("size", [(1, 1), (33, 200), (97, 131), (375, 500)], ids=str)
@pytest.mark.parametrize("net", NETS)
def test_every_layer_in_float64(net, size):
    assert_agree(compare(net, size, batch=3 if size == (33, 200) else 2), 1e-10)


@pytest.mark.parametrize("net", NETS)
def test_every_layer_in_float32_and_with_learned_upsampling(net):
    assert_agree(compare(net, (97, 131), dtype=torch.float32), 1e-5)
    assert_agree(compare(net, (97, 131), upsample="deconv"), 1e-10)


# The mistakes, and the first layer that each must show in. Of a mistake that is made in several
# layers, also in each alone.
POOL3, POOL4 = "crop moved by one: score_pool3c", "crop moved by one: score_pool4c"
MISTAKES = {
    "fcn8s": {
        **{f"floor pooling: pool{number}": f"pool{number}" for number in range(1, 6)},
        "swapped channels": "conv1_1",
        "transposed fc6": "fc6",
        POOL4: "fuse_pool4",
        POOL3: "fuse_pool3",
        "crop moved by one: score": "score",
    },
    "fcn8s-atonce": {
        "missing scale: scale_pool4": "scale_pool4",
        "missing scale: scale_pool3": "scale_pool3",
    },
    "fcn32s-color-d": {
        "swapped channels": "conv1_1_bgrd",
        "crop moved by one": "score",
    },
    "fcn32s-color-hha": {
        "swapped streams": "conv1_1color",
        "sum of the streams": "score_fused",
        "crop moved by one": "score",
    },
    "siftflow-fcn8s": {
        "crop moved by one: score_pool4_semc": "fuse_pool4_sem",
        "crop moved by one: score_pool3_geoc": "fuse_pool3_geo",
        "crop moved by one: score_geo": "score_geo",
    },
    "siftflow-fcn16s": {"crop moved by one: score_pool4_geoc": "fuse_pool4_geo"},
    "siftflow-fcn32s": {"crop moved by one: score_geo": "score_geo"},
    "fcn-alexnet": {
        "norm before pool: pool1": "pool1",
        "kernel 64": "score",
        "crop moved by one": "score",
    },
    "fcn-googlenet": {
        **{f"floor pooling: pool{n}/3x3_s2": f"pool{n}/3x3_s2" for n in range(1, 5)},
        "kernel 64": "score",
        "crop moved by one": "score",
    },
}
# Sizes at which every pooling of a network has one row and one column left over, so that rounding
# down in any of them loses a row and a column of the last; 59 x 91 for VGG16.
ODD = {"fcn-alexnet": (63, 95), "fcn-googlenet": (61, 93)}


@pytest.mark.parametrize(
    "net, mistake, where",
    [(net, *mistake) for net in MISTAKES for mistake in MISTAKES[net].items()],
)
def test_a_mistake_shows_where_it_is_made_and_in_the_scores(net, mistake, where):
    errors = compare(net, ODD.get(net, (59, 91)), mistake=mistake)
    task = where[-4:] if where.endswith(("_sem", "_geo")) else ""
    assert min(errors[where], errors[f"score{task}"]) > 1e-3
    with pytest.raises(AssertionError, match=f"from layer {where} on"):
        assert_agree(errors, 1e-10)
