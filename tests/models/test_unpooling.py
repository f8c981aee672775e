"""Pooling switches and SegNet's decoder, against the layers of ``plain_segnet.py``.

Errors are the largest difference relative to the largest value; 1e-10 in float64 leaves room for
another order of summation.
"""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from models.plain_segnet import CONVS, Plain
from models.segnet import ODD, WEIGHTED, segnet
from models.small import CLASSES, labelled
from networks import relative_error
from torch import nn
from torch.nn import functional

from fcn_plugin.checks.model import weighted_losses
from fcn_plugin.errors import UserError

CONFIG = Path(__file__).parents[2] / "configs/segnet_vgg16-bn_camvid.py"


def by_layer(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights, biases and statistics by the names of the layers in the files."""
    found = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        layer, kind = name.rsplit(".", 2)[-2:]
        found[f"{'conv1_1_D' if layer == 'conv_seg' else layer}.{kind}"] = value
    return found


def layers(model: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs of our layers by the names of the files; the network is called once."""
    found: dict[str, torch.Tensor] = {}

    def keep(name, module, inputs, output):
        assert name not in found
        found[name] = (output[0] if isinstance(output, tuple) else output).clone()

    def keep_input(name, module, inputs):
        found[name] = inputs[0].clone()

    unpooled = {f"conv{stage}_{convs}_D": stage for stage, convs in enumerate(CONVS, start=1)}
    for path, module in model.named_modules():
        name = path.rpartition(".")[2]
        if isinstance(module, nn.ReLU | nn.MaxPool2d):
            module.register_forward_hook(partial(keep, name.removeprefix("relu_")))
        elif name in unpooled:
            module.register_forward_pre_hook(partial(keep_input, f"upsample{unpooled[name]}"))
    found["conv1_1_D"] = model(image, mode="tensor")
    return found


def errors(image: torch.Tensor, mistake: str = "") -> dict[str, float]:
    model = segnet().eval()
    with torch.no_grad():
        found = layers(copy.deepcopy(model), image)
        expected = Plain(image, by_layer(model), mistake=mistake)
    assert found.keys() == expected.keys() and len(found) == 36
    return {name: relative_error(found[name], value) for name, value in expected.items()}


@pytest.mark.parametrize("size", [(1, 1), (32, 64), ODD], ids=str)
def test_every_layer_of_three_images(size):
    wrong = {n: e for n, e in errors(torch.randn(3, 3, *size).double()).items() if not e <= 1e-10}
    assert not wrong


def test_of_equal_pixels_the_first_is_taken_and_filled():
    """A flat image is all ties, away from its border."""
    flat = torch.full((1, 3, *ODD), 0.5, dtype=torch.float64)
    assert max(errors(flat).values()) <= 1e-10
    assert errors(flat, "last of ties")["conv1_1_D"] > 1e-3


@pytest.mark.parametrize(
    "mistake", ["moved by one pixel", "bilinear", "switches of the first image"]
)
def test_a_mistake_shows_from_the_first_unpooling_on(mistake):
    found = errors(torch.randn(2, 3, *ODD).double(), mistake)
    names = list(found)
    encoder = [found[name] for name in names[: names.index("upsample5")]]
    assert max(encoder) <= 1e-10 and len(encoder) == 18
    assert min(found["upsample5"], found["conv1_1_D"]) > 1e-3


@pytest.mark.parametrize("training", [False, True], ids=["statistics", "batch"])
def test_gradients_of_image_and_weights(training):
    model = segnet().train(training)
    image = torch.randn(2, 3, *ODD, dtype=torch.float64, requires_grad=True)
    weights = {name: value for name, value in by_layer(model).items() if value.requires_grad}
    into = torch.randn(2, CLASSES, *ODD, dtype=torch.float64)
    outputs = [Plain(image, by_layer(model), training)["conv1_1_D"], model(image, mode="tensor")]
    expected, found = (
        torch.autograd.grad((output * into).sum(), [image, *weights.values()]) for output in outputs
    )
    # A bias before normalisation by the batch does nothing: its gradient is rounding alone.
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for name, one, other in zip(["image", *weights], found, expected, strict=True):
        scale = max(float(other.abs().max()), 1e-4 * largest)
        assert float((one - other).abs().max()) <= 1e-10 * scale, name


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_it_mirrors_every_depth(depth):
    model = segnet(backbone=dict(depth=depth), head=dict(depth=depth)).eval()
    shapes = [
        [m.weight.shape for m in part.modules() if isinstance(m, nn.Conv2d)]
        for part in (model.backbone, model.decode_head.stages)
    ]
    assert [len(each) for each in shapes] == [depth - 3, depth - 4]
    # Each takes what its twin gives, and gives what its twin takes.
    mirrored = [(inner, outer, *window) for outer, inner, *window in reversed(shapes[0][1:])]
    assert [tuple(shape) for shape in shapes[1]] == mirrored
    assert model(torch.zeros(1, 3, *ODD).double(), mode="tensor").shape == (1, CLASSES, *ODD)


# Channels of the convolutions of SegNet-Tutorial's Models/segnet_inference.prototxt.
ENCODER_OF_FILES = {
    **dict(conv1_1=64, conv1_2=64, conv2_1=128, conv2_2=128),
    **dict(conv3_1=256, conv3_2=256, conv3_3=256, conv4_1=512, conv4_2=512, conv4_3=512),
    **dict(conv5_1=512, conv5_2=512, conv5_3=512),
}
DECODER_OF_FILES = {
    **dict(conv5_3_D=512, conv5_2_D=512, conv5_1_D=512),
    **dict(conv4_3_D=512, conv4_2_D=512, conv4_1_D=256),
    **dict(conv3_3_D=256, conv3_2_D=256, conv3_1_D=128),
    **dict(conv2_2_D=128, conv2_1_D=64, conv1_2_D=64, conv1_1_D=11),
}


def test_the_config_has_the_layers_of_segnets_files():
    """And their sizes on 360 x 480, which upsample5 and upsample4 state: pooling rounds up."""
    cfg = Config.fromfile(CONFIG)
    with torch.device("meta"):
        model = MODELS.build(cfg.model).eval()
        features = model.backbone(torch.zeros(1, 3, 360, 480))
    for part, expected in (
        (model.backbone, ENCODER_OF_FILES),
        (model.decode_head, DECODER_OF_FILES),
    ):
        convs = {
            name.rpartition(".")[2].replace("conv_seg", "conv1_1_D"): conv
            for name, conv in part.named_modules()
            if isinstance(conv, nn.Conv2d)
        }
        found = {name: conv.out_channels for name, conv in convs.items()}
        assert found == expected
        assert {(conv.kernel_size, conv.padding) for conv in convs.values()} == {((3, 3), (1, 1))}
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert norms == 25  # after all but conv1_1_D
    sizes = [switches.size for switches in features.switches]
    assert sizes[3:] == [(45, 60), (23, 30)] and features[0].shape[2:] == (12, 15)


def test_class_weights_where_pixels_are_ignored():
    """The mean that torch has; mmseg's heads fail on the ignored pixels."""
    model = segnet(head=dict(loss_decode=WEIGHTED)).eval()
    images, samples = torch.randn(2, 3, *ODD).double(), labelled(ODD, void=0.3)
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    scores = model(images, mode="tensor")
    weight = scores.new_tensor(WEIGHTED["class_weight"])
    expected = functional.cross_entropy(scores, labels, weight, ignore_index=255)
    losses = model(images, samples, mode="loss")
    assert float(losses["decode.loss_ce"]) == pytest.approx(float(expected), rel=1e-6)
    correct = (scores.argmax(1) == labels)[labels != 255].double().mean()
    assert float(losses["decode.acc_seg"]) == pytest.approx(100 * float(correct), abs=1e-3)
    assert not list(weighted_losses(model))


def test_other_losses_are_mmsegs():
    both = [dict(type="DiceLoss"), dict(type="CrossEntropyLoss")]
    model = segnet(head=dict(loss_decode=both)).eval()
    assert not model.decode_head.loss_is_blockwise
    losses = model(torch.randn(2, 3, *ODD).double(), labelled(ODD), mode="loss")
    assert losses.keys() == {"decode.loss_dice", "decode.loss_ce", "decode.acc_seg"}


def test_it_learns_and_comes_back_from_a_checkpoint(tmp_path):
    padding = dict(type="SegDataPreProcessor", size_divisor=1)
    model = segnet(head=dict(loss_decode=WEIGHTED), data_preprocessor=padding).float().train()
    optimizer = build_optim_wrapper(
        model, dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.02, momentum=0.9))
    )
    images = torch.rand(2, 3, *ODD)
    samples = labelled(ODD, label=(images[:1, 0] * CLASSES).long())
    batch = dict(inputs=list(images), data_samples=samples)
    losses = [float(model.train_step(copy.deepcopy(batch), optimizer)["loss"]) for _ in range(12)]
    assert losses[1] < losses[0] and losses[-1] < 0.9 * losses[0]
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "a.pth")
    other = segnet().float()
    other.load_state_dict(torch.load(tmp_path / "a.pth")["state_dict"])
    found = [each.eval()(images, mode="tensor") for each in (model, other)]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    "test_cfg", [dict(mode="whole"), dict(mode="slide", crop_size=(32, 32), stride=(32, 21))]
)
def test_predictions_are_of_the_images_size(test_cfg):
    """In windows, each pixel has the mean of the scores that the windows have there."""
    size = (32, 53)
    model = segnet(test_cfg=test_cfg).eval()
    images, samples = torch.randn(2, 3, *size).double(), labelled(size)
    with torch.no_grad():
        found = torch.stack([s.seg_logits.data for s in model.predict(images, samples)])
        if test_cfg["mode"] == "whole":
            expected = model(images, mode="tensor")
        else:
            left, right = (model(images[..., at : at + 32], mode="tensor") for at in (0, 21))
            expected = torch.cat([left, right[..., 11:]], -1)
            expected[..., 21:32] = (left[..., 21:] + right[..., :11]) / 2
    assert relative_error(found, expected) <= 1e-10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(backbone=dict(switches=False)), "switches=True"),
        (dict(backbone=dict(out_indices=(3,))), r"out_indices=\(4,\)"),
        (dict(backbone=dict(out_indices=(4, 5), fc_channels=4)), r"out_indices=\(4,\)"),
        (dict(head=dict(in_index=1)), "in_index=0"),
        (dict(head=dict(in_channels=24)), "set in_channels=16"),
        (dict(head=dict(in_channels=12)), "8 times"),
        (dict(head=dict(in_channels=(16,))), r"in_channels=\(16,\), must be one number"),
        (dict(head=dict(in_index=[0])), r"in_index=\[0\], must be one number"),
        (dict(head=dict(depth=12)), "11, 13, 16, 19"),
        (dict(backbone=dict(padding="reference")), "set padding='same'"),
        (dict(neck=dict(type="FPN", in_channels=[16], out_channels=16, num_outs=1)), "neck"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told(change, said):
    with pytest.raises(UserError, match=said):
        segnet(**change)(torch.zeros(1, 3, *ODD).double(), mode="tensor")


def test_another_pool5_than_the_last_output():
    model = segnet(backbone=dict(out_indices=(4, 5), fc_channels=4), head=dict(in_index=0)).eval()
    assert model(torch.zeros(1, 3, *ODD).double(), mode="tensor").shape == (1, CLASSES, *ODD)


def test_labels_of_another_size_are_refused():
    with pytest.raises(UserError, match="transformed with their images"):
        segnet()(torch.zeros(2, 3, *ODD).double(), labelled((36, 53)), mode="loss")
