"""Every published layout, made in small here, becomes a checkpoint that mmseg runs."""

import copy
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mmengine
import numpy as np
import pytest
import reference
import torch
from mmseg.apis import init_model
from mmseg.registry import MODELS
from weights.caffe_files import write_caffemodel
from weights.published import (
    BASE,
    FC,
    SCORES,
    alexnet_layers,
    as_justincj,
    fcn_layers,
    named,
    torchvision_vgg,
)

from fcn_plugin.conversion import ours
from fcn_plugin.conversion.convert import conversion_of, convert
from fcn_plugin.conversion.network import Conversion
from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES
from fcn_plugin.errors import UserError
from fcn_plugin.system.download import Digest
from fcn_plugin.weights import recognise
from fcn_plugin.weights.files import read_content
from fcn_plugin.weights.networks import net_of
from fcn_plugin.weights.recognise import recognise_tensors
from fcn_plugin.weights.sources import KNOWN

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGE = np.random.default_rng(2).integers(0, 256, (97, 131, 3), dtype=np.uint8)
AT_ONCE = (0.0001, 0.01, 1.0)
NOISE = np.random.default_rng(3)


def written(path: Path, content, **options) -> Path:
    """A caffemodel of layers, or a PyTorch file of anything."""
    if path.suffix == ".pth":
        torch.save(content, path)
    else:
        write_caffemodel(path, content, **options)
    return path


def caffe(folder: Path, layers, **options) -> Conversion:
    """From a caffemodel to ``out.pth``."""
    return convert(written(folder / "a.caffemodel", layers), folder / "out.pth", **options)


def mmseg_model(config: str, checkpoint: Path, **head):
    """``init_model`` on a shipped config, at the widths of these files."""
    cfg = mmengine.Config.fromfile(CONFIGS / config)
    base, levels = (4, (3,)) if "alexnet" in config else (BASE, (2, 3, 5))
    cfg.model.backbone.update(base_channels=base, fc_channels=FC, init_cfg=None)
    widths = {2: 4 * BASE, 3: FC if "alexnet" in config else 8 * BASE, 5: FC}
    channels = [widths[level] for level in cfg.model.backbone.get("out_indices", levels)]
    cfg.model.decode_head.update(in_channels=channels, **head)
    return init_model(cfg, str(checkpoint), device="cpu")


def predicted(model) -> torch.Tensor:
    """Scores of IMAGE through the config's own preprocessing."""
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=[torch.from_numpy(IMAGE).permute(2, 0, 1)]))
        return model.double()(data["inputs"].double(), mode="tensor")


def difference(found: torch.Tensor, layers, net: str) -> float:
    """From the independent reference on the same layers, relative to its largest score."""
    weights = {name: tensor.double() for name, tensor in named(layers).items()}
    pixels = IMAGE - np.array([104.00699, 116.66877, 122.67892])
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = reference.run(net, image, weights)["score"]
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("net", [*SCORES, "fcn-alexnet"])
def test_a_caffemodel_predicts_as_the_reference(tmp_path, net):
    layers = fcn_layers(net) if net in SCORES else alexnet_layers()
    old = dict(version="V1", packed=net != "fcn8s", legacy_shape=True) if net[-1] == "s" else {}
    source = written(tmp_path / "a.caffemodel", layers, **old)
    result = convert(source, tmp_path / "out.pth")
    report = result.report
    assert result.net == (net if net in SCORES else "fcn32s")
    assert result.weights.input.mean == (104.00699, 116.66877, 122.67892)
    assert result.weights.padding == "reference"
    assert {*report.used, *report.dropped} == {*named(layers)} and not report.new
    assert report.dropped.keys() == {f"{name}.weight" for name in layers if "upscore" in name}
    shipped = f"{net}_vgg16_voc2011-heavy.py" if net in SCORES else "fcn32s_alexnet_voc2011.py"
    model = mmseg_model(shipped, tmp_path / "out.pth")
    assert model.dataset_meta["classes"][15] == "person"
    assert model.dataset_meta["palette"][15] == [192, 128, 128]
    assert difference(predicted(model), layers, net) <= 1e-5
    if net == "fcn8s-atonce":  # without the scales it is another, and a config without is refused
        assert difference(predicted(model), layers, "fcn8s") > 1e-2
        with pytest.raises(UserError, match=r"set model.decode_head.scale="):
            mmseg_model("fcn8s_vgg16_voc2011-heavy.py", tmp_path / "out.pth")


def test_what_tells_that_a_network_was_trained_at_once(tmp_path, monkeypatch):
    state = named(fcn_layers("fcn8s"))
    source, target = tmp_path / "model_best.pth", tmp_path / "out.pth"
    # The class that a checkpoint of pytorch-fcn names.
    for arch, net in (("FCN8sAtOnce", "fcn8s-atonce"), ("FCN8s", "fcn8s")):
        result = convert(written(source, dict(arch=arch, model_state_dict=state)), target)
        assert result.net == net and "does not say" not in str(result)
    # The file's name; if it says nothing, that is said; then whoever converts it.
    named_so = convert(written(tmp_path / "fcn8s-atonce_from_caffe.pth", state), target)
    assert named_so.net == "fcn8s-atonce" and named_so.scale == AT_ONCE
    assert "assumed fcn8s (no scales)" in str(convert(written(source, state), target))
    assert convert(source, target, net="fcn8s-atonce").scale == AT_ONCE
    # The hash of a published file, whatever it is called now.
    digest = Digest("md5", hashlib.md5(source.read_bytes()).hexdigest())
    published = next(known for known in KNOWN if known.file_name.startswith("fcn8s-atonce"))
    monkeypatch.setattr(recognise, "KNOWN", (replace(published, digest=digest),))
    result = convert(source, target)
    assert result.net == "fcn8s-atonce"
    assert "the published fcn8s-atonce_from_caffe.pth" in str(result)


@pytest.mark.parametrize("kind", ["plain", "BatchNorm", "features only"])
def test_torchvision(tmp_path, kind):
    norm = kind == "BatchNorm"
    tensors = torchvision_vgg(norm=norm).state_dict()
    if norm:  # files from before 2018
        tensors = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    if kind == "features only":  # the published file has a classifier, of NaN
        tensors |= {k: v * torch.nan for k, v in tensors.items() if k.startswith("classif")}
    result = convert(written(tmp_path / "vgg16.pth", tensors), tmp_path / "out.pth")
    assert result.net == "fcn8s" and result.weights.input.order == "RGB"
    scores = {f"decode_head.score.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")}
    assert all((result.state_dict[name] == 0).all() for name in scores)
    new = set(result.report.new) - scores
    if norm:
        assert {name.rpartition(".")[2] for name in new} - {"weight", "bias"} == {
            *("num_batches_tracked", "running_mean", "running_var")
        }
        assert result.state_dict["backbone.stages.0.norm_conv1_1.num_batches_tracked"] == 0
    elif kind == "plain":
        assert set(result.report.dropped) == {"classifier.6.weight", "classifier.6.bias"}
        assert not new and mmseg_model("fcn8s_vgg16_voc.py", tmp_path / "out.pth")
    else:
        assert {name.split(".")[3] for name in new} == {"fc6", "fc7"}
        assert result.weights.input.std == (1.0, 1.0, 1.0)
        assert result.weights.input.mean == pytest.approx((123.0, 117.0, 104.0), abs=0.01)


def test_a_classifier_on_caffes_input_begins_the_published_chain(tmp_path):
    state = as_justincj(torchvision_vgg().state_dict())
    source = written(tmp_path / "vgg16.pth", state)
    assert convert(source, tmp_path / "out.pth").net == "fcn32s"
    at_once = convert(source, tmp_path / "out.pth", net="fcn8s-atonce")
    assert at_once.scale == AT_ONCE
    assert at_once.weights.input.mean == (103.939, 116.779, 123.68)


def test_a_learned_kernel_is_used_as_it_is(tmp_path, monkeypatch):
    """Dense between the classes; the shipped config, whose upsampling is fixed, runs it."""
    layers = fcn_layers("fcn16s", classes=5)
    layers["upscore2"][0] += NOISE.standard_normal((5, 5, 4, 4)).astype("f") * 0.1
    result = caffe(tmp_path, layers)
    assert "upscore2.weight" in result.report.used
    assert "upscore16.weight" in result.report.dropped
    model = mmseg_model("fcn16s_vgg16_voc2011-heavy.py", tmp_path / "out.pth", num_classes=5)
    kernel, fixed = torch.from_numpy(layers["upscore2"][0]), reference.upscore
    stored = copy.deepcopy(model).decode_head.upscore[1].deconv.weight
    assert torch.equal(stored, kernel) and not stored.requires_grad
    found = predicted(model)
    assert difference(found, layers, "fcn16s") > 1e-2

    def upscore(x, side, stride):
        """By hand, with the stored kernel in place of the bilinear one."""
        learned = torch.nn.functional.conv_transpose2d
        return learned(x, kernel.double(), stride=2) if stride == 2 else fixed(x, side, stride)

    monkeypatch.setattr(reference, "upscore", upscore)
    assert difference(found, layers, "fcn16s") <= 1e-5


def test_other_classes_when_asked_for(tmp_path):
    result = caffe(tmp_path, fcn_layers("fcn8s"), dataset="CamVidDataset")
    assert result.num_classes == 11 and result.dataset_meta["classes"][0] == "sky"
    new = [f"decode_head.score.{i}.{kind}" for i in range(3) for kind in ("bias", "weight")]
    assert result.report.new == new
    assert result.report.dropped["score_fr.weight"] == "for 21 other classes"
    other = convert(tmp_path / "a.caffemodel", tmp_path / "out.pth", num_classes=7)
    assert other.dataset_meta["classes"] == tuple(f"class {i}" for i in range(7))
    same = convert(tmp_path / "a.caffemodel", tmp_path / "out.pth", num_classes=21)
    assert not same.report.new


def test_the_next_stage_from_our_own_checkpoint(tmp_path):
    source = written(tmp_path / "a.caffemodel", fcn_layers("fcn32s"))
    before = convert(source, tmp_path / "32s.pth").checkpoint()
    result = convert(tmp_path / "32s.pth", tmp_path / "16s.pth", net="fcn16s")
    assert result.report.new == ["decode_head.score.0.bias", "decode_head.score.0.weight"]
    after = torch.load(tmp_path / "16s.pth", weights_only=True)
    name = "decode_head.score.{}.weight"
    assert torch.equal(before["state_dict"][name.format(0)], after["state_dict"][name.format(1)])
    assert (after["state_dict"][name.format(0)] == 0).all()
    for key in ("input", "dataset_meta"):
        assert after["meta"][key] == before["meta"][key]


def test_pascal_context_in_its_own_order_and_in_mmsegs(tmp_path):
    layers = fcn_layers("fcn16s", classes=60)
    layers["upscore2"][0] += NOISE.standard_normal((60, 60, 4, 4)).astype("f")
    own = caffe(tmp_path, layers)
    assert own.dataset_meta["classes"] == tuple(PUBLISHED_CLASSES)
    colours = dict(zip(PUBLISHED_CLASSES, own.dataset_meta["palette"], strict=True))
    assert colours["aeroplane"] == [180, 120, 120] and colours["wood"] == [31, 0, 255]
    assert own.weights.input.mean == (104.007, 116.669, 122.679)
    config = "fcn16s_vgg16_pascal-context-heavy.py"
    before = predicted(mmseg_model(config, tmp_path / "out.pth"))
    result = caffe(tmp_path, layers, dataset="PascalContextDataset")
    assert result.dataset_meta["classes"][:3] == ("background", "aeroplane", "bag")
    after = predicted(mmseg_model(config, tmp_path / "out.pth"))
    for at, name in enumerate(result.dataset_meta["classes"]):
        torch.testing.assert_close(after[:, at], before[:, PUBLISHED_CLASSES.index(name)])


def zeros(*shape):
    return np.zeros(shape, np.float32)


NAN = np.full((FC, FC, 1, 1), np.nan, np.float32)
TRANSPOSED = np.ascontiguousarray(fcn_layers("fcn8s")["fc6"][0].reshape(FC, -1).T)
NOT_CONVOLUTIONS = [name for name in fcn_layers("fcn8s") if not name.startswith("conv")]
# Of a caffemodel of FCN-8s with layers replaced or, where None, left out.
BROKEN = [
    # truncated between two layers: what is left is not taken for FCN-16s or 32s
    ("e.g. upscore16.weight", dict(score_pool3=None, upscore8=None)),
    ("holds 37 tensors", dict(conv5_3=None)),
    ("without fc6 and fc7, which is no whole network", dict.fromkeys(NOT_CONVOLUTIONS)),
    ("no place for, e.g. extra.weight", dict(extra=[zeros(4)])),
    (r"fc6.weight is \(1568, 24\)", dict(fc6=[TRANSPOSED, zeros(FC)])),
    (r"upscore8.weight is \(21, 1", dict(upscore8=[zeros(21, 1, 16, 16)])),
    ("numbers that differ", dict(scale_pool4=[zeros(32)], scale_pool3=[np.arange(16.0)])),
    ("only one of the two scale", dict(scale_pool4=[zeros(32)])),
    ("NaN or inf", dict(fc7=[NAN, zeros(FC)])),
    ("has control characters in the name", {"\x1b[31m": [zeros(1)]}),
]


def test_files_that_are_refused(tmp_path):
    cases = {}
    for number, (message, changes) in enumerate(BROKEN):
        layers = {k: v for k, v in (fcn_layers("fcn8s") | changes).items() if v is not None}
        cases[written(tmp_path / f"{number}.caffemodel", layers)] = message
    (tmp_path / "html.caffemodel").write_bytes(b"<html>404</html>")
    cases[tmp_path / "html.caffemodel"] = "begins with b'<html>40'; expected a caffemodel"
    cases[written(tmp_path / "a.pth", dict(a=torch.zeros(1)))] = "holds 1 tensors .a, ..."
    target = tmp_path / "target.pth"
    target.write_text("precious")
    for source, message in cases.items():
        with pytest.raises(UserError, match=message) as raised:
            convert(source, target)
        assert str(source) in str(raised.value) and "\n" not in str(raised.value)
    assert target.read_text() == "precious" and not list(tmp_path.glob("*.part"))


def test_what_cannot_be_asked_for(tmp_path):
    for layers, options, message in (
        (fcn_layers("fcn8s-atonce"), dict(net="fcn8s"), "trained with scales 0.0001/0.01/1,"),
        (alexnet_layers(), dict(net="fcn8s"), "makes fcn32s, not fcn8s"),
        (fcn_layers("fcn8s"), dict(dataset="CamVid"), "mmseg has no such data set"),
    ):
        with pytest.raises(UserError, match=message):
            caffe(tmp_path, layers, **options)
    assert not (tmp_path / "out.pth").exists()


# Fully convolutional VGG16, AlexNet and GoogLeNet; the others mix parts of mmseg's.
OURS = [
    path
    for path in sorted(CONFIGS.glob("fcn*_v*.py"))
    if path.stem.split("_")[1] in ("vgg16", "vgg16-bn", "alexnet", "googlenet")
]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_the_config_that_is_named_fits_exactly(path):
    """From the tensors of each shipped network at full width, of one number each in memory."""
    with torch.device("meta"):
        cfg = mmengine.Config.fromfile(path)
        model = MODELS.build(cfg.model)
    tensors = {k: torch.zeros(()).expand(t.shape) for k, t in model.state_dict().items()}
    pixels = cfg.model.data_preprocessor
    order = {True: "RGB", False: "BGR", None: "bands"}[pixels.get("bgr_to_rgb")]
    meta = dict(net=net_of(model), input=dict(order=order, mean=pixels.mean, std=pixels.std))
    assert meta["net"] is not None
    result = conversion_of(recognise_tensors(path, tensors, meta))
    assert result.state_dict.keys() == tensors.keys()
    # The same network on other images goes by the name of the usual ones.
    same = path.stem.replace("_voc2011", "_voc").replace("_voc-train", "_voc")
    endings = ("pascal-context", "pascal-context-heavy", "siftflow-heavy")
    shipped = "_voc" in path.stem or "_nyud" in path.stem or path.stem.endswith(endings)
    assert result.config in ((path.stem, same) if shipped else (None,))
    assert all((CONFIGS / f"{name}.py").is_file() for name in ours.CONFIGS.values())


@pytest.mark.parametrize("name", ["psp_vgg16_voc", "fcn8s_vgg16_voc"])
def test_a_mix_is_none_of_the_published_networks(name):
    with torch.device("meta"):
        model = MODELS.build(mmengine.Config.fromfile(CONFIGS / f"{name}.py").model)
    if name == "fcn8s_vgg16_voc":  # but for a level that the backbone has not got
        model.decode_head.in_index = (0, 1, 4)
    assert net_of(model) is None


def trained(folder: Path, backbone, head, classes=tuple("abcde")) -> Path:
    """A checkpoint as the runner writes it, of random weights."""
    vgg = dict(type="ConvolutionalizedVGG", base_channels=BASE, fc_channels=FC)
    head = dict(type="SkipFusionHead", num_classes=len(classes), in_index=range(3)) | head
    head = dict(in_channels=(4 * BASE, 8 * BASE, FC)) | head
    model = MODELS.build(dict(type="EncoderDecoder", backbone=vgg | backbone, decode_head=head))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    meta = dict(dataset_meta=dict(classes=classes), net=net_of(model))
    return written(folder / "own.pth", dict(meta=meta, state_dict=model.state_dict()))


ALEXNET = dict(type="ConvolutionalizedAlexNet", variant="torchvision", out_indices=(3,))


@pytest.mark.parametrize(
    ("backbone", "head", "classes"),
    [
        (dict(norm_cfg=dict(type="BN")), {}, tuple("abcde")),
        (dict(depth=11), dict(upsample="deconv"), tuple("abcde")),
        (ALEXNET, dict(in_channels=(FC,), in_index=(0,)), tuple("abcde")),
        ({}, dict(out_channels=1, threshold=0.5), ("no", "yes")),
    ],
    ids=["BatchNorm", "learned kernels", "AlexNet", "binary"],
)
def test_our_own_checkpoints_come_through_unchanged(tmp_path, backbone, head, classes):
    """Through the other format, too."""
    source = trained(tmp_path, backbone, head, classes)
    convert(source, tmp_path / "own.safetensors")
    result = convert(tmp_path / "own.safetensors", tmp_path / "out.pth")
    before, after = (read_content(path)["state_dict"] for path in (source, tmp_path / "out.pth"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not result.report.new and not result.report.dropped
    assert result.dataset_meta["classes"] == classes
    assert len(result.dataset_meta["palette"]) == len(classes)


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        # pool5 and fc7: as wide as pool4 and fc7
        (
            dict(out_indices=(4, 5)),
            dict(in_channels=(8 * BASE, FC), in_index=(0, 1)),
            "match none of",
        ),
        (dict(norm_cfg=dict(type="GN", num_groups=2)), {}, "norm_conv1_1.running_mean"),
    ],
    ids=["pool5", "GroupNorm"],
)
def test_our_own_that_are_none_of_the_published(tmp_path, backbone, head, message):
    with pytest.raises(UserError, match=f"{message}.*of our own checkpoints only"):
        convert(trained(tmp_path, backbone, head), tmp_path / "out.pth")


PEAK = """
import resource, sys
from pathlib import Path
from fcn_plugin.conversion.convert import convert
small, large, target = map(Path, sys.argv[1:])
convert(small, target)  # what is imported and built once does not count
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(large, target)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_the_weights_are_held_once(tmp_path):
    """fc6 is three quarters of the file, as in the published ones."""
    small = written(tmp_path / "small.caffemodel", fcn_layers("fcn32s"))
    large = written(tmp_path / "large.caffemodel", fcn_layers("fcn32s", base=32, fc=1024))
    command = [sys.executable, "-W", "ignore", "-c", PEAK, small, large, tmp_path / "out.pth"]
    environment = os.environ | dict(PYTHONPATH=str(CONFIGS.parent))
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert large.stat().st_size > 60e6
    assert 1024 * int(run.stdout.splitlines()[-1]) < 1.3 * large.stat().st_size
