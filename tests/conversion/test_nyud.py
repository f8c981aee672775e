"""NYUDv2's four networks: recognised, converted, and predicting as the reference."""

from pathlib import Path

import mmengine
import numpy as np
import pytest
import reference
import torch
from mmseg.apis import init_model
from mmseg.registry import MODELS
from weights.caffe_files import write_caffemodel
from weights.published import BASE, FC, Layers, fcn_layers, named, nyud, nyud_early, nyud_late

from fcn_plugin.conversion.convert import convert
from fcn_plugin.conversion.network import Conversion
from fcn_plugin.data.nyud import NAMES
from fcn_plugin.errors import UserError
from fcn_plugin.prediction.network import load_network
from fcn_plugin.weights.files import read_content
from fcn_plugin.weights.networks import net_of

CONFIGS = Path(__file__).parents[2] / "configs"
RNG = np.random.default_rng(0)
SIZE = (45, 70)
COLOR = (116.190, 97.203, 92.318)
LOG_DEPTH = (7.844,)
HHA = (132.431, 94.076, 118.477)


NETS = {"color": nyud, "hha": nyud, "color-d": nyud_early, "color-hha": nyud_late}
MEANS = {"color": COLOR, "hha": HHA, "color-d": COLOR + LOG_DEPTH, "color-hha": COLOR + HHA}


def caffe(folder: Path, layers: Layers, name: str = "a", **options) -> Conversion:
    """From a caffemodel to NAME.pth."""
    write_caffemodel(folder / f"{name}.caffemodel", layers)
    return convert(folder / f"{name}.caffemodel", folder / f"{name}.pth", **options)


def config(net: str) -> mmengine.Config:
    """The shipped one at the widths of these files."""
    cfg = mmengine.Config.fromfile(CONFIGS / f"fcn32s_vgg16_nyud-{net}-heavy.py")
    for backbone in cfg.model.backbone.get("streams", [cfg.model.backbone]):
        backbone.update(base_channels=BASE, fc_channels=FC, init_cfg=None)
    cfg.model.decode_head.in_channels = (FC,) * len(cfg.model.decode_head.in_channels)
    return cfg


def difference(net: str, model, layers: Layers) -> float:
    """From the reference on the layers of the file, both in double precision."""
    bands = len(MEANS[net])
    pixels = RNG.integers(1, 256, (*SIZE, bands)).astype(np.float32)
    # The pipelines give colour pictures in BGR, also those of HHA.
    given = pixels[..., ::-1] if net == "hha" else pixels
    inputs = [torch.from_numpy(np.ascontiguousarray(given.transpose(2, 0, 1)))]
    with torch.no_grad():
        image = model.data_preprocessor(dict(inputs=inputs))["inputs"]
        found = model.double()(image.double(), mode="tensor")
    weights = {name: tensor.double() for name, tensor in named(layers).items()}
    mean_free = torch.from_numpy(pixels - np.float32(MEANS[net])).permute(2, 0, 1)[None].double()
    name = {"color": "fcn32s", "hha": "fcn32s"}.get(net, f"fcn32s-{net}")
    expected = reference.run(name, mean_free, weights)["score"]
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("net", NETS)
def test_a_caffemodel_predicts_as_the_reference(tmp_path, net):
    layers = NETS[net]()
    name = f"nyud-fcn32s-{net}-heavy"
    result = caffe(tmp_path, layers, name)
    assert result.weights.input.mean == MEANS[net] and result.weights.padding == "reference"
    assert result.dataset_meta["classes"] == NAMES
    report = result.report
    assert {*report.used, *report.dropped} == {*named(layers)} and not report.new
    assert set(report.dropped) == {"upscore.weight"}
    model = init_model(config(net), str(tmp_path / f"{name}.pth"), device="cpu")
    assert model.dataset_meta["classes"][23] == "refridgerator"
    assert model.dataset_meta["palette"][0] == [128, 0, 0]
    assert difference(net, model, layers) <= 1e-10
    # Another band in the first place is another picture.
    first = [name for name in layers if name.startswith("conv1_1")]
    wrong = layers | {name: [layers[name][0][:, ::-1].copy(), layers[name][1]] for name in first}
    assert difference(net, model, wrong) > 1e-3


def test_color_and_hha_are_told_apart_by_name_or_by_hand(tmp_path):
    by_name = caffe(tmp_path, nyud(), "nyud-fcn32s-hha-heavy")
    assert "assumed nyud-hha by its name" in str(by_name)
    assert by_name.weights.input.order == "RGB"
    unknown = caffe(tmp_path, nyud())
    assert "may be of NYUDv2's color or HHA" in str(unknown)
    assert "its input stays unknown" in str(unknown) and unknown.weights.input is None
    assert "input" not in read_content(tmp_path / "a.pth")["meta"]
    told = caffe(tmp_path, nyud(), trained_on="nyud-color")
    assert told.weights.input.mean == COLOR and "color or HHA" not in str(told)
    for layers in (nyud_early(), nyud_late(), fcn_layers("fcn32s")):
        with pytest.raises(UserError, match="not a network of NYUDv2's 40 classes on three"):
            caffe(tmp_path, layers, trained_on="nyud-color")


@pytest.mark.parametrize("net", NETS)
def test_a_checkpoint_on_another_input_is_refused(tmp_path, net):
    caffe(tmp_path, NETS[net](), f"nyud-{net}")
    cfg = config(net)
    cfg.model.data_preprocessor.mean[-1] += 30
    with pytest.raises(UserError, match="the weights were trained on"):
        load_network(cfg, tmp_path / f"nyud-{net}.pth", torch.device("cpu"))
    load_network(config(net), tmp_path / f"nyud-{net}.pth", torch.device("cpu"))


def test_the_conversion_of_our_own_two_streams_changes_nothing(tmp_path):
    caffe(tmp_path, nyud_late())
    again = convert(tmp_path / "a.pth", tmp_path / "again.safetensors")
    before, after = (
        read_content(tmp_path / name)["state_dict"] for name in ("a.pth", "again.safetensors")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert again.weights.input.mean == COLOR + HHA and not again.report.dropped


def test_two_networks_become_one_of_two_streams(tmp_path):
    """Which is the published file of the same layers, as the authors begin with."""
    for seed, stream in enumerate(("color", "hha")):
        caffe(tmp_path, nyud(seed), stream)
    result = convert(
        tmp_path / "color.pth", tmp_path / "both.pth", second=tmp_path / "hha.caffemodel"
    )
    caffe(tmp_path, nyud_late(), "published")
    ours, published = (read_content(tmp_path / f"{n}.pth") for n in ("both", "published"))
    assert ours["state_dict"].keys() == published["state_dict"].keys()
    for name, tensor in published["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name
    for key in ("input", "net", "padding", "dataset_meta"):
        assert ours["meta"][key] == published["meta"][key]
    assert "2 streams of fcn32s on vgg16, 40 classes" in result.summary
    other = tmp_path / "voc.caffemodel"
    write_caffemodel(other, fcn_layers("fcn32s"))
    with pytest.raises(UserError, match=r"voc\.caffemodel: other classes than .*color\.pth"):
        convert(tmp_path / "color.pth", tmp_path / "out.pth", second=other)


def test_networks_that_cannot_become_streams(tmp_path):
    caffe(tmp_path, nyud(), "color")
    caffe(tmp_path, nyud(), "unknown")
    caffe(tmp_path, nyud_late(), "late")
    learned = nyud()
    learned["upscore"] = [learned["upscore"][0] + np.float32(0.1)]
    write_caffemodel(tmp_path / "hha-learned.caffemodel", learned)
    for name, message in (
        ("unknown.caffemodel", "does not tell what it was trained on; convert it .*--input"),
        ("late.pth", "has streams or factors on its levels itself"),
        ("hha-learned.caffemodel", "its upsampling is learned"),
    ):
        with pytest.raises(UserError, match=rf"{name}: {message}"):
            convert(tmp_path / "color.pth", tmp_path / "out.pth", second=tmp_path / name)
    assert not (tmp_path / "out.pth").exists()


def test_our_own_streams_with_the_levels_of_16s(tmp_path):
    """Trained, converted to the other format and back; more streams than two are not known."""
    vgg = dict(type="ConvolutionalizedVGG", base_channels=BASE, fc_channels=FC)
    for count, upsample in ((2, "bilinear"), (2, "deconv"), (3, "bilinear")):
        backbone = dict(
            type="Streams", streams=[dict(vgg, out_indices=(3, 5))] * count, channels=[3] * count
        )
        head = dict(
            type="SkipFusionHead",
            in_channels=[8 * BASE] * count + [FC] * count,
            in_index=range(2 * count),
            strides=[16] * count + [32] * count,
            num_classes=5,
            upsample=upsample,
        )
        model = MODELS.build(dict(type="EncoderDecoder", backbone=backbone, decode_head=head))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        assert net_of(model) == "fcn16s"
        meta = dict(dataset_meta=dict(classes=tuple("abcde")), net="fcn16s")
        torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / "own.pth")
        if (count, upsample) != (2, "bilinear"):
            with pytest.raises(UserError, match=r"own\.pth: (holds|looks like)"):
                convert(tmp_path / "own.pth", tmp_path / "out.safetensors")
            continue
        convert(tmp_path / "own.pth", tmp_path / "out.safetensors")
        found = read_content(tmp_path / "out.safetensors")["state_dict"]
        assert found.keys() == model.state_dict().keys()
        assert all(torch.equal(found[name], t) for name, t in model.state_dict().items())


def test_other_classes_on_both_streams(tmp_path):
    result = caffe(tmp_path, nyud_late(), num_classes=7)
    assert result.report.new == [
        f"decode_head.score.{i}.{kind}" for i in range(2) for kind in ("bias", "weight")
    ]
    assert result.state_dict["decode_head.score.1.weight"].shape == (7, FC, 1, 1)


def test_damaged_files_of_streams(tmp_path):
    for message, changes in (
        (r"hha, fcn32s, but 2 of its tensors are missing, e\.g\. fc7\.", dict(fc7hha=None)),
        ("match none of", dict(score_frhha=None)),
        (
            "has 2 tensors that the network has no place for",
            dict(extra=[np.zeros(4), np.zeros(4)]),
        ),
        ("upscore.weight", dict(upscore=None)),
    ):
        layers = {k: v for k, v in (nyud_late() | changes).items() if v is not None}
        with pytest.raises(UserError, match=message):
            caffe(tmp_path, layers)


def test_depth_begins_with_the_mean_of_the_colours_filters(tmp_path):
    layers = {k: v for k, v in fcn_layers("fcn32s").items() if "score" not in k}
    write_caffemodel(tmp_path / "vgg16.caffemodel", layers)
    cfg = config("color-d")
    shipped = mmengine.Config.fromfile(CONFIGS / "fcn32s_vgg16_nyud-color-d-heavy.py")
    file = str(tmp_path / "vgg16.caffemodel")
    cfg.model.backbone.init_cfg = dict(shipped.model.backbone.init_cfg, checkpoint=file)
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    kernel = torch.from_numpy(layers["conv1_1"][0])
    stored = backbone.state_dict()["stages.0.conv1_1.weight"]
    assert torch.equal(stored[:, :3], kernel)
    torch.testing.assert_close(stored[:, 3], kernel.mean(1))
