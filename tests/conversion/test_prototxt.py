"""A caffemodel with its prototxt: checked layer by layer, and any FCN on VGG gets its config."""

import re
from pathlib import Path

import mmengine
import networks
import pytest
import reference
import torch
from mmseg.apis import init_model
from weights.caffe_files import write_caffemodel
from weights.caffe_text import CaffeFile, Variant, interpreted

from fcn_plugin.conversion.caffe import described
from fcn_plugin.conversion.caffe.described import DescribedConversion
from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.weights.networks import NETS

EXACT = 1e-10  # another order of summation in double precision, no more


def files(folder: Path, written: CaffeFile, text: str | None = None) -> tuple[Path, Path]:
    """A caffemodel and its prototxt."""
    model, prototxt = folder / "net.caffemodel", folder / "deploy.prototxt"
    write_caffemodel(model, written.blobs)
    prototxt.write_text(written.text if text is None else text)
    return model, prototxt


def drawn(variant: Variant, seed: int = 0) -> tuple[CaffeFile, dict[str, torch.Tensor]]:
    weights = variant.weights(torch.Generator().manual_seed(seed))
    file = CaffeFile(weights, variant.channels)
    variant.write(file)
    return file, weights


def scores(config: str | Path, checkpoint: Path, image: torch.Tensor, **changes) -> torch.Tensor:
    """Of the network that mmseg builds, in double precision."""
    cfg = mmengine.Config.fromfile(config)
    cfg.merge_from_dict(changes)
    model = init_model(cfg, str(checkpoint), device="cpu").double()
    with torch.no_grad():
        return model(image.double(), mode="tensor")


def pictures(channels: int, size=(45, 70)) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.rand(2, channels, *size, generator=random) * 255 - 115


VARIANTS = {
    "other classes and names": Variant(ending="_mine", classes=7),
    "16s": Variant(("pool4",), (4, 32), base=3, fc=9, channels=4),
    "32s": Variant((), (64,), depth=19, channels=1, dropout=0.2),
    "at once": Variant(factors=(0.02, 0.0003), classes=2),
    "learned": Variant(learned=True, classes=3, depth=13),
    "other kernels": Variant(kernels=(8, 2, 24), learned=True),
    "narrow kernels, 16s": Variant(("pool4",), (2, 16), learned=True),
    "a kernel for each class": Variant(grouped=True, ending="_2"),
    "learned for each class": Variant(("pool4",), (6, 32), grouped=True, learned=True),
    "same": Variant(padding="same"),
    "same, padded": Variant(padding="same", padded=True, depth=11, dropout=0),
    "same, other kernels": Variant(("pool4",), (6, 48), padding="same", learned=True),
    "same, 32s": Variant((), (64,), padding="same", padded=True, classes=4),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_config_and_the_checkpoint_score_as_the_described_network(name, tmp_path):
    variant = VARIANTS[name]
    written, weights = drawn(variant)
    conversion = DescribedConversion(*files(tmp_path, written))
    config = conversion.write(tmp_path / "out.pth")
    image = pictures(variant.channels)
    found = scores(config, tmp_path / "out.pth", image)
    expected = interpreted(variant.write, image, weights)
    assert networks.relative_error(found, expected) <= EXACT
    assert conversion.network.num_classes == variant.classes and conversion.assumed
    backbone = mmengine.Config.fromfile(config).model.backbone
    assert backbone.get("dropout_ratio") == (variant.dropout or None)
    if variant.padding == "same":  # what makes the difference at the border
        other = scores(config, tmp_path / "out.pth", image, **{"model.decode_head.zero_border": 0})
        assert networks.relative_error(other, expected) > 1e-3


# Of one head and one stream -> classes and shipped config. FCN-GoogLeNet never was.
PUBLISHED = {
    **{net: (21, f"{net}_vgg16_voc2011-heavy") for net in ("fcn32s", "fcn16s", "fcn8s")},
    "fcn8s-atonce": (21, "fcn8s-atonce_vgg16_voc2011-heavy"),
    "fcn-alexnet": (21, "fcn32s_alexnet_voc2011"),
    "fcn32s-color-d": (40, "fcn32s_vgg16_nyud-color-d-heavy"),
}
OTHER_FORMS = [net for net in networks.NETS if net not in (*PUBLISHED, "fcn-googlenet")]


@pytest.mark.parametrize("net", PUBLISHED)
def test_the_published_networks_narrow(net, tmp_path):
    """Their crops, by the numbers in the authors' files, are those that follow from the layers."""
    backbone, head = networks.build(net)
    weights = {k: v.float() for k, v in networks.parameters(net, backbone, head).items()}
    channels = networks.NETS[net].channels
    written = CaffeFile(weights, channels)
    reference.write(net, written)
    conversion = DescribedConversion(*files(tmp_path, written))
    assert conversion.net == (net if net in NETS else "fcn32s")
    config = conversion.write(tmp_path / "out.safetensors")
    image = pictures(channels)
    found = scores(config, tmp_path / "out.safetensors", image)
    exact = {name: tensor.double() for name, tensor in weights.items()}
    expected = reference.run(net, image.double(), exact)["score"]
    assert networks.relative_error(found, expected) <= EXACT
    if net == "fcn8s-atonce":
        wrong = reference.run(net, image.double(), exact, "missing scale: scale_pool4")["score"]
        assert networks.relative_error(found, wrong) > 1e-3


@pytest.mark.parametrize("net", PUBLISHED)
def test_the_published_networks_of_full_width_have_their_shipped_configs(
    net, tmp_path, monkeypatch
):
    """Of one number each in memory, but for the kernels."""
    with torch.device("meta"):
        backbone, head = networks.build(net, full=True, classes=PUBLISHED[net][0])
        shapes = networks.parameters(net, backbone, head)
    channels = networks.NETS[net].channels
    weights = {name: torch.zeros(()).expand(t.shape) for name, t in shapes.items()}
    written = CaffeFile(weights, channels)
    reference.write(net, written)
    model, prototxt = files(tmp_path, CaffeFile({}), written.text)
    model.touch()
    stored = {
        f"{layer}.{kind}": blob
        for layer, blobs in written.blobs.items()
        for kind, blob in zip(("weight", "bias"), blobs, strict=False)
    }
    monkeypatch.setattr(described, "format_of", lambda path: "caffemodel")
    monkeypatch.setattr(described, "read", lambda path, progress: (stored, None))
    conversion = DescribedConversion(model, prototxt)
    assert conversion.config == PUBLISHED[net][1] and conversion.report.new == []
    # Of another mean it is none that a shipped config is for.
    mean = 'layer { name: "data" type: "Data" top: "data" transform_param { mean_value: 90 } }\n'
    prototxt.write_text(mean + written.text.replace(written.text.splitlines()[0], "", 1))
    other = DescribedConversion(model, prototxt)
    assert other.config is None and other.weights.input.mean == (90,) * channels


@pytest.mark.parametrize("net", OTHER_FORMS)
def test_two_tasks_or_streams_are_known_without_a_prototxt(net, tmp_path):
    backbone, head = networks.build(net, classes=40)
    weights = {k: v.float() for k, v in networks.parameters(net, backbone, head).items()}
    written = CaffeFile(weights, networks.NETS[net].channels)
    reference.write(net, written)
    model, prototxt = files(tmp_path, written)
    with pytest.raises(UserError, match=r"(tasks|two streams); leave --prototxt out; without it"):
        DescribedConversion(model, prototxt)
    conversion = convert(model, tmp_path / "out.pth")
    assert conversion.net == net.split("-")[net.startswith("siftflow")]
    assert conversion.num_classes == (33 if conversion.tasks else 40) and conversion.weights.input


def test_color_or_hha_is_told_by_hand(tmp_path):
    """A narrow network's own config then has the mean, and the checkpoint keeps to it."""
    written, _ = drawn(Variant((), (64,), classes=40))
    model, prototxt = files(tmp_path, written)
    untold = DescribedConversion(model, prototxt)
    assert untold.assumed and "Give --input nyud-color or --input nyud-hha" in str(untold)
    told = DescribedConversion(model, prototxt, trained_on="nyud-hha")
    assert not told.assumed and "--input" not in str(told)
    pixels = mmengine.Config.fromfile(told.write(tmp_path / "out.pth")).model.data_preprocessor
    assert (pixels.mean, pixels.bgr_to_rgb) == ([132.431, 94.076, 118.477], True)
    assert told.checkpoint()["meta"]["input"]["order"] == "RGB"
    text = MEAN.format("mean_value: 7") + "\n".join(written.text.splitlines()[2:])
    prototxt.write_text(text)
    assert "--input" not in str(DescribedConversion(model, prototxt))
    with pytest.raises(UserError, match=r"its input is known .*; leave --input out"):
        DescribedConversion(model, prototxt, trained_on="nyud-hha")


AT_ONCE = Variant(factors=(0.01, 0.0001))
NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "conv4_1" top: "conv4_1" }'
TASK = 'layer { name: "geo" type: "Crop" bottom: "up_pool3" bottom: "data" top: "geo" }'
# A layer, a word of its line in the prototxt and what becomes of it, and what is said.
OTHERS = """
conv3_2 | name: "conv3_2" | name: "conv3x2" | no layer conv3x2, .*did you mean 'conv3_2'?
score_pool3 | "score_pool3" type | "score3" type | no layer score3, .*did you mean
conv3_2 | num_output: 8 | num_output: 9 | layer conv3_2: num_output 9, but 8 in conv3_2
fc6 | num_output: 12 | num_output: 13 | layer fc7: num_output 12, but 13 in fc7
conv1_2 | group: 1 | group: 2 | layer conv1_2: group 2, but 1 in conv1_2
conv5_3 | pad: 1 | pad: 2 | layer conv5_3: pad 2, but 1 in conv5_3
conv1_1 | pad: 100 | pad: 99 | layer conv1_1: pad 99, but 100 in conv1_1
conv1_1 | pad: 100 | pad: 1 | layer fc6: pad 0, but 3 in fc6 of vgg16 with padding='same'
conv4_2 | group: 1 | dilation: 2 | layer conv4_2: dilation 2, but 1 in conv4_2
conv5_3 | kernel_size: 3 | kernel_size: 5 | layer conv5_3: kernel_size 5, but 3 in conv5_3
conv5_3 | kernel_size: 3 | kernel_h: 3 kernel_w: 1 | layer conv5_3: kernel_size 1 and 3
conv2_1 | group: 1 | bias_term: false | layer conv2_1: bias_term false, but true
pool4 | stride: 2 | stride: 1 | layer pool4: stride 1, but 2 in pool4
pool3 | pool: MAX | pool: AVE | layer pool3: pool AVE, but MAX in pool3
pool2 | pool: MAX | round_mode: FLOOR | layer pool2: round_mode FLOOR, but CEIL in pool2
pool1 | kernel_size: 2 | kernel_size: 3 | layer pool1: kernel_size 3, but 2 in pool1
relu_conv4_1 | "ReLU" | "PReLU" | layer relu_conv4_1: PReLU where relu_conv4_1 of
relu_conv4_1 | layer | NORM layer | layer bn: BatchNorm where relu_conv4_1 of
relu_conv4_1 | } | relu_param { negative_slope: 0.1 } } | layer relu_conv4_1: negative_slope 0.1,
drop_fc7 | 0.5 | 0.4 | layer drop_fc7: dropout_ratio 0.4, but 0.5 of the layer before
score_pool3 | kernel_size: 1 | kernel_size: 3 | layer score_pool3: kernel_size 3, but 1 in
score_fr | num_output: 5 | num_output: 4 | layer up_fc7: num_output 5, but 4 in a network of 4
score_pool3 | "scale_pool3" | "pool3" | layer scale_pool3: no layer reads it
scale_pool3 | "pool3" | "pool2" | layer score_pool3: is one of those that score scaled pool2,
scale_pool4 | "pool4" | "conv4_3" | layer score_pool4: scores relu_conv4_3, which ends
up_fc7 | stride: 2 | stride: 4 | layer up_fc7: stride 4, but 2 from there to pool4
up_fc7 | kernel_size: 4 | kernel_size: 5 | layer up_fc7: kernel_size 5 puts its pixels between
up_fc7 | kernel_size: 4 | kernel_size: 6 | layer score_pool4c: offset 5, but 4 by the
up_fc7 | kernel_size: 4 | kernel_size: 4 pad: 1 | layer up_fc7: pad 1, but 0 if score_pool4c crops
up_pool3 | bias_term: false | bias_term: true | layer up_pool3: bias_term true, but false
up_pool3 | bias_term: false | bias_term: false group: 2 | layer up_pool3: group 2, must be 1 or 5
score_pool4c | offset: 5 | offset: 4 | layer score_pool4c: offset 4, but 5 by the
score_pool3c | offset: 9 | offset: 9 offset: 8 | layer score_pool3c: offset 8 and 9, but 9 by the
score_pool3c | axis: 2 | axis: 3 | layer score_pool3c: must crop rows and columns
score_pool3c | "up_pool4" | "pool3" | layer score_pool3c: crops to pool3, must crop to up_pool4
score | offset: 31 | offset: 27 | layer score: offset 27, but 31 by the
score | "data" | "pool1" | layer score: crops to pool1, must crop to the image
fuse_pool3 | SUM | MAX | layer fuse_pool3: operation MAX, but SUM in a sum of two
fuse_pool3 | SUM | SUM coeff: 1 coeff: 2 | layer fuse_pool3: coeff 1.0 and 2.0, but 1.0 and 1.0
fuse_pool4 | "up_fc7" | "score_fr" | layer fuse_pool4: adds scores of two streams
scale_pool4 | } | scale_param { bias_term: true } } | layer scale_pool4: bias_term true
score | layer | TASK layer | ends in 2 layers (geo, score), as a network of several tasks
score_fr | layer | NORM layer | layer bn: no layer reads it
conv3_1 | "pool2" | "pool3" | layer conv3_1: reads pool3, which no layer before
conv3_1 | top: "conv3_1" | top: "pool1" | layer conv3_1: writes pool1 as pool1 does
conv3_1 | top: "conv3_1" |  | layer conv3_1: reads 1 blobs and writes 0
conv3_1 | name: "conv3_1" | name: "conv2_2" | layer conv2_2: there are two of this name
conv3_1 | num_output: 8 | num_output: 0 | layer conv3_1: num_output 0, must be from 1
conv3_1 | stride: 1 | stride: 0 | layer conv3_1: stride 0, must be from 1 to 65536
fc6 | "Convolution" | "InnerProduct" | layer fc6: InnerProduct where fc6 of vgg16
"""


def with_change(text: str, layer: str, word: str, other: str) -> str:
    """The prototxt with ``word`` replaced in the line of a layer."""
    other = other.replace("NORM", f"{NORM}\n").replace("TASK", f"{TASK}\n")
    lines = text.splitlines()
    (number,) = [i for i, line in enumerate(lines) if f'{{ name: "{layer}" ' in line]
    assert word in lines[number]
    lines[number] = lines[number].replace(word, other, 1)
    return "\n".join(lines)


def test_the_first_layer_that_differs_is_named(tmp_path):
    written, _ = drawn(AT_ONCE)
    model, prototxt = files(tmp_path, written)
    DescribedConversion(model, prototxt)  # as it is, it fits
    others = []
    for line in OTHERS.strip().splitlines():
        layer, word, other, message = (part.strip() for part in line.split("|"))
        prototxt.write_text(with_change(written.text, layer, word, other))
        with pytest.raises(UserError) as raised:
            DescribedConversion(model, prototxt)
        found = str(raised.value)
        if not re.search(re.escape(message).replace(r"\.\*", ".*"), found):
            others.append(f"{line}: {found}")
        assert str(prototxt) in found and "\n" not in found and "; " in found
    assert others == [], "\n".join(others)


def test_the_file_is_compared_with_its_description(tmp_path):
    written, _ = drawn(AT_ONCE)
    _, prototxt = files(tmp_path, written)
    weight, bias = written.blobs["conv4_2"]
    for blobs, message in {
        (weight[1:], bias): r"layer conv4_2: weight is (15, 16, 3, 3), but by .* (16, 16, 3, 3)",
        (weight, bias[1:]): r"layer conv4_2: bias is (15,), but by .* (16,); give the prototxt",
        (weight,): r"net.caffemodel: layer conv4_2 has no bias, which .*deploy.prototxt has",
    }.items():
        write_caffemodel(tmp_path / "net.caffemodel", written.blobs | dict(conv4_2=blobs))
        with pytest.raises(UserError, match=re.escape(message).replace(r"\.\*", ".*")):
            DescribedConversion(tmp_path / "net.caffemodel", prototxt)
    for blobs, message in (
        (written.blobs | dict(extra=[bias]), "has a layer extra, which .* has not"),
        (
            written.blobs | dict(up_pool4=[written.blobs["up_pool4"][0], bias]),
            "deploy.prototxt: layer up_pool4 has no",
        ),
    ):
        write_caffemodel(tmp_path / "net.caffemodel", blobs)
        with pytest.raises(UserError, match=message):
            DescribedConversion(tmp_path / "net.caffemodel", prototxt)


MEAN = 'layer {{ name: "data" type: "Data" top: "data" transform_param {{ {} }} }}\n'


def test_the_input_is_the_prototxts_or_assumed(tmp_path):
    """And a checkpoint is not bound to what was assumed."""
    for channels, said, order, mean, std in (
        (3, "", "BGR", [104.00699, 116.66877, 122.67892], 1),
        (3, "mean_value: [1, 2.5, 3] scale: 0.5", "BGR", [1, 2.5, 3], 2),
        (3, "mean_value: 7", "BGR", [7, 7, 7], 1),
        (4, "mean_value: [1, 2, 3, 4]", "bands", [1, 2, 3, 4], 1),
        (2, "", "bands", [0, 0], 1),
    ):
        written, _ = drawn(Variant(channels=channels))
        text = MEAN.format(said) + "\n".join(written.text.splitlines()[2:])
        conversion = DescribedConversion(*files(tmp_path, written, text))
        config = conversion.write(tmp_path / "out.pth")
        stored = conversion.checkpoint()["meta"].get("input")
        assert (stored is None) == conversion.assumed == (not said)
        model = mmengine.Config.fromfile(config).model
        pixels = model.data_preprocessor
        bands = pixels.type == "BandsPreProcessor"
        assert (pixels.mean, pixels.std) == (mean, [std] * channels)
        assert bands == (order == "bands") == (channels != 3)
        assert model.backbone.in_channels == channels
        assert ("Assumed" in config.read_text()) == conversion.assumed
        if stored:
            assert (stored["order"], list(stored["mean"])) == (order, mean)
        config.unlink()
    wrong = MEAN.format("mean_value: [1, 2]") + "\n".join(written.text.splitlines()[2:])
    with pytest.raises(UserError, match="a mean of 2 numbers for an image of 3 channels"):
        DescribedConversion(*files(tmp_path, drawn(Variant())[0], wrong))


def test_a_config_is_never_replaced_and_holds_no_code_of_a_name(tmp_path):
    written, _ = drawn(Variant())
    model, prototxt = files(tmp_path, written)
    hostile = prototxt.rename(tmp_path / '"""\nraise SystemExit(3)\n"""')
    target = tmp_path / '""" + exit(3) + """.pth'
    conversion = DescribedConversion(model, hostile)
    config = conversion.write(target)
    assert mmengine.Config.fromfile(config).model.type == "FCNSegmentor"
    assert conversion.write(target) == config  # the same once more
    config.write_text(f"{config.read_text()}# mine\n")
    target.unlink()
    with pytest.raises(UserError, match="there already; move it"):
        conversion.write(target)
    assert config.read_text().endswith("# mine\n") and not target.exists()
    with pytest.raises(UserError, match=r"its config is the \.py"):
        conversion.write(tmp_path / "out.py")
