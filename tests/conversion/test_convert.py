"""Every published layout, made in small here, becomes a checkpoint that the host runs."""

import copy
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
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
    torchvision_tensors,
)

from fcn_plugin.conversion import ours
from fcn_plugin.conversion.convert import Conversion, convert
from fcn_plugin.data.pascal_context import PUBLISHED_CLASSES
from fcn_plugin.errors import UserError
from fcn_plugin.system.download import Digest
from fcn_plugin.weights import recognise
from fcn_plugin.weights.networks import net_of
from fcn_plugin.weights.recognise import recognise_tensors
from fcn_plugin.weights.sources import KNOWN

CONFIGS = Path(__file__).parents[2] / "configs"


def host_model(config: str, checkpoint: Path, **head):
    """``init_model`` on a shipped config, at the widths of these files."""
    cfg = mmengine.Config.fromfile(CONFIGS / config)
    if "alexnet" in config:
        cfg.model.backbone.update(base_channels=4, fc_channels=FC, init_cfg=None)
        channels = (FC,)
    else:
        cfg.model.backbone.update(base_channels=BASE, fc_channels=FC, init_cfg=None)
        widths = {2: 4 * BASE, 3: 8 * BASE, 5: FC}
        channels = [widths[i] for i in cfg.model.backbone.get("out_indices", (2, 3, 5))]
    cfg.model.decode_head.update(in_channels=channels, **head)
    return init_model(cfg, str(checkpoint), device="cpu")


def expected_scores(layers, net: str) -> torch.Tensor:
    """The independent reference on the same layers, preprocessed as published."""
    weights = {name: tensor.double() for name, tensor in named(layers).items()}
    pixels = IMAGE - np.array([104.00699, 116.66877, 122.67892])
    return reference.run(net, torch.from_numpy(pixels).permute(2, 0, 1)[None], weights)["score"]


def predicted(model) -> torch.Tensor:
    """Scores of IMAGE through the config's own preprocessing."""
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=[torch.from_numpy(IMAGE).permute(2, 0, 1)]))
        return model.double()(data["inputs"].double(), mode="tensor")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest, relative to the largest score."""
    return float((found - expected).abs().max() / expected.abs().max())


IMAGE = np.random.default_rng(2).integers(0, 256, (97, 131, 3), dtype=np.uint8)
AT_ONCE = (0.0001, 0.01, 1.0)


def converted(folder: Path, layers, version: str = "V2", **options) -> Conversion:
    """From a caffemodel to ``out.pth``."""
    old = version == "V1"
    write_caffemodel(folder / "a.caffemodel", layers, version, packed=not old, legacy_shape=old)
    return convert(folder / "a.caffemodel", folder / "out.pth", **options)


@pytest.mark.parametrize(
    ("net", "version", "config"),
    [
        *(
            (net, "V1" if net[-1] == "s" else "V2", f"{net}_vgg16_voc2011-heavy.py")
            for net in SCORES
        ),
        ("fcn-alexnet", "V2", "fcn32s_alexnet_voc2011.py"),
    ],
)
def test_caffemodel_to_the_hosts_prediction(tmp_path, net, version, config):
    layers = fcn_layers(net) if net in SCORES else alexnet_layers()
    result = converted(tmp_path, layers, version)
    report = result.report
    assert result.net == (net if net in SCORES else "fcn32s")
    assert {*report.used, *report.dropped} == {*named(layers)} and not report.new
    assert report.dropped.keys() == {f"{name}.weight" for name in layers if "upscore" in name}
    model = host_model(config, tmp_path / "out.pth")
    assert model.dataset_meta["classes"][15] == "person"
    assert model.dataset_meta["palette"][15] == [192, 128, 128]
    assert difference(predicted(model), expected_scores(layers, net)) <= 1e-5


def test_without_the_scales_the_prediction_is_another(tmp_path):
    """The control of the test above."""
    layers = fcn_layers("fcn8s-atonce")
    converted(tmp_path, layers)
    model = host_model("fcn8s-atonce_vgg16_voc2011-heavy.py", tmp_path / "out.pth")
    assert difference(predicted(model), expected_scores(layers, "fcn8s")) > 1e-2
    # And a config without them is refused by whatever loads the checkpoint.
    with pytest.raises(UserError, match=r"set model.decode_head.scale=") as raised:
        host_model("fcn8s_vgg16_voc2011-heavy.py", tmp_path / "out.pth")
    assert "\n" not in str(raised.value)


def test_pascal_context_keeps_its_own_class_order(tmp_path):
    result = converted(tmp_path, fcn_layers("fcn16s", classes=60))
    assert result.dataset_meta["classes"] == tuple(PUBLISHED_CLASSES)
    colours = dict(zip(PUBLISHED_CLASSES, result.dataset_meta["palette"], strict=True))
    assert colours["aeroplane"] == [180, 120, 120] and colours["wood"] == [31, 0, 255]
    assert result.weights.input.mean == (104.007, 116.669, 122.679)
    model = host_model("fcn16s_vgg16_pascal-context-heavy.py", tmp_path / "out.pth")
    assert model.dataset_meta["classes"][11] == "table"


@pytest.mark.parametrize("net", SCORES)
def test_pytorch_fcn(tmp_path, net):
    """The same names without scale layers: the file's name tells an unknown at-once network."""
    layers = {k: v for k, v in fcn_layers(net).items() if not k.startswith("scale")}
    torch.save(named(layers), tmp_path / f"{net}_from_caffe.pth")
    result = convert(tmp_path / f"{net}_from_caffe.pth", tmp_path / "out.pth")
    assert result.net == net
    assert result.scale == (AT_ONCE if net == "fcn8s-atonce" else None)
    model = host_model(f"{net}_vgg16_voc2011-heavy.py", tmp_path / "out.pth")
    assert difference(predicted(model), expected_scores(layers, net)) <= 1e-5


def test_what_tells_that_a_network_was_trained_at_once(tmp_path, monkeypatch):
    state = named(fcn_layers("fcn8s"))
    source, target = tmp_path / "model_best.pth", tmp_path / "out.pth"
    # The class that a checkpoint of pytorch-fcn names.
    for arch, net in (("FCN8sAtOnce", "fcn8s-atonce"), ("FCN8s", "fcn8s")):
        torch.save(dict(arch=arch, epoch=3, model_state_dict=state), source)
        result = convert(source, target)
        assert result.net == net and "does not tell" not in str(result)
    # Nothing, which is said; then whoever converts it.
    torch.save(state, source)
    result = convert(source, target)
    assert "does not tell whether it was trained at once: taken for fcn8s" in str(result)
    assert convert(source, target, net="fcn8s-atonce").scale == AT_ONCE
    # The hash of a published file, whatever it is called now.
    digest = Digest("md5", hashlib.md5(source.read_bytes()).hexdigest())
    published = next(known for known in KNOWN if known.file_name.startswith("fcn8s-atonce"))
    monkeypatch.setattr(recognise, "KNOWN", (replace(published, digest=digest),))
    result = convert(source, target)
    assert result.net == "fcn8s-atonce"
    assert "the published fcn8s-atonce_from_caffe.pth" in str(result)


@pytest.mark.parametrize("norm", [False, True])
def test_torchvision(tmp_path, norm):
    """Files from before 2018 do not count the batches of their norms."""
    tensors = torchvision_tensors(norm)
    torch.save(tensors, tmp_path / "vgg16.pth")
    result = convert(tmp_path / "vgg16.pth", tmp_path / "out.pth")
    assert result.weights.input.order == "RGB"
    assert ("with BatchNorm" in str(result)) == norm
    assert set(result.report.dropped) == {"classifier.6.weight", "classifier.6.bias"}
    scores = [name for name in result.report.new if name.startswith("decode_head.score.")]
    assert len(scores) == 6
    others = {name.rpartition(".")[2] for name in result.report.new} - {"weight", "bias"}
    assert others == ({"num_batches_tracked", "running_mean", "running_var"} if norm else set())
    state = result.state_dict
    assert torch.equal(
        state["backbone.stages.4.conv5_3.bias"], tensors[f"features.{28 + 12 * norm}.bias"]
    )
    if norm:
        assert state["backbone.stages.0.norm_conv1_1.num_batches_tracked"] == 0
        return
    model = host_model("fcn8s_vgg16_voc.py", tmp_path / "out.pth")
    fc6 = tensors["classifier.0.weight"].reshape(FC, 8 * BASE, 7, 7)
    assert torch.equal(model.backbone.stages[5].fc6.weight, fc6)
    assert all((score.weight == 0).all() for score in model.decode_head.score)


def test_a_classifier_on_caffes_input_begins_the_published_chain(tmp_path):
    torch.save(as_justincj(torchvision_tensors()), tmp_path / "vgg16.pth")
    assert convert(tmp_path / "vgg16.pth", tmp_path / "out.pth").net == "fcn32s"
    at_once = convert(tmp_path / "vgg16.pth", tmp_path / "out.pth", net="fcn8s-atonce")
    assert at_once.scale == AT_ONCE
    assert at_once.weights.input.mean == (103.939, 116.779, 123.68)


def test_torchvisions_features_only(tmp_path):
    """The published file has a classifier, of NaN."""
    tensors = torchvision_tensors()
    tensors |= {k: torch.full_like(v, torch.nan) for k, v in tensors.items() if "classif" in k}
    torch.save(tensors, tmp_path / "vgg16_features.pth")
    result = convert(tmp_path / "vgg16_features.pth", tmp_path / "out.pth")
    new = {name.split(".")[3] for name in result.report.new if name.startswith("backbone")}
    assert new == {"fc6", "fc7"}
    assert result.weights.input.std == (1.0, 1.0, 1.0)
    assert result.weights.input.mean == pytest.approx((123.0, 117.0, 104.0), abs=0.01)
    assert all(tensor.isfinite().all() for tensor in result.state_dict.values())


def test_a_learned_kernel_is_used_as_it_is(tmp_path, monkeypatch):
    """Dense between the classes; the shipped config, whose upsampling is fixed, runs it."""
    layers = fcn_layers("fcn16s", classes=5)
    rng = np.random.default_rng(3)
    layers["upscore2"][0] += rng.standard_normal((5, 5, 4, 4)).astype(np.float32) * 0.1
    result = converted(tmp_path, layers)
    assert "upscore2.weight" in result.report.used
    assert "upscore16.weight" in result.report.dropped
    model = host_model("fcn16s_vgg16_voc2011-heavy.py", tmp_path / "out.pth", num_classes=5)
    stored = model.decode_head.upscore[1].deconv.weight
    assert torch.equal(stored, torch.from_numpy(layers["upscore2"][0]))
    assert not stored.requires_grad
    found = predicted(model)
    assert difference(found, expected_scores(layers, "fcn16s")) > 1e-2
    # By hand, with the stored kernel in place of the bilinear one.
    kernel, fixed = torch.from_numpy(layers["upscore2"][0]).double(), reference.upscore

    def upscore(x, side, stride):
        learned = torch.nn.functional.conv_transpose2d
        return learned(x, kernel, stride=2) if stride == 2 else fixed(x, side, stride)

    monkeypatch.setattr(reference, "upscore", upscore)
    assert difference(found, expected_scores(layers, "fcn16s")) <= 1e-5
    # Saved and loaded again, the kernel is still there; the model can be copied.
    again = copy.deepcopy(model)
    assert torch.equal(again.decode_head.upscore[1].deconv.weight, stored)


def test_other_classes_when_asked_for(tmp_path):
    result = converted(tmp_path, fcn_layers("fcn8s"), dataset="CamVidDataset")
    assert result.num_classes == 11 and result.dataset_meta["classes"][0] == "sky"
    assert result.report.new == [
        f"decode_head.score.{i}.{kind}" for i in range(3) for kind in ("bias", "weight")
    ]
    assert result.report.dropped["score_fr.weight"] == "for 21 other classes"
    model = host_model("fcn8s_vgg16_voc2011-heavy.py", tmp_path / "out.pth", num_classes=11)
    assert predicted(model).abs().max() == 0
    other = convert(tmp_path / "a.caffemodel", tmp_path / "out.pth", num_classes=7)
    assert other.dataset_meta["classes"] == tuple(f"class {i}" for i in range(7))
    same = convert(tmp_path / "a.caffemodel", tmp_path / "out.pth", num_classes=21)
    assert not same.report.new
    as_many = converted(tmp_path, fcn_layers("fcn32s", classes=11), dataset="CamVidDataset")
    assert as_many.report.dropped["score_fr.weight"] == "for 11 other classes"
    assert len(as_many.report.new) == 2


def test_the_next_stage_from_our_own_checkpoint(tmp_path):
    write_caffemodel(tmp_path / "a.caffemodel", fcn_layers("fcn32s"))
    convert(tmp_path / "a.caffemodel", tmp_path / "32s.pth")
    result = convert(tmp_path / "32s.pth", tmp_path / "16s.pth", net="fcn16s")
    assert result.report.new == ["decode_head.score.0.bias", "decode_head.score.0.weight"]
    before = torch.load(tmp_path / "32s.pth", weights_only=True)
    after = torch.load(tmp_path / "16s.pth", weights_only=True)
    name = "decode_head.score.{}.weight"
    assert torch.equal(before["state_dict"][name.format(0)], after["state_dict"][name.format(1)])
    assert (after["state_dict"][name.format(0)] == 0).all()
    assert after["meta"]["input"] == before["meta"]["input"]
    assert after["meta"]["dataset_meta"] == before["meta"]["dataset_meta"]
    # With nothing new the scores are those of the stage before, up to the finer upsampling.
    model = host_model("fcn16s_vgg16_voc2011-heavy.py", tmp_path / "16s.pth")
    assert predicted(model).abs().max() > 0


def broken(tmp_path, name, **changes):
    """A caffemodel of FCN-8s with layers replaced or, where None, left out."""
    layers = fcn_layers("fcn8s") | changes
    write_caffemodel(tmp_path / name, {k: v for k, v in layers.items() if v is not None})
    return tmp_path / name


def zeros(*shape):
    return np.zeros(shape, np.float32)


NAN = np.full((FC, FC, 1, 1), np.nan, np.float32)
TRANSPOSED = np.ascontiguousarray(fcn_layers("fcn8s")["fc6"][0].reshape(FC, -1).T)
BROKEN = [
    # truncated between two layers: what is left is not taken for FCN-16s or 32s
    ("e.g. upscore16.weight", dict(score_pool3=None, upscore8=None)),
    ("holds 37 tensors", dict(conv5_3=None)),
    ("e.g. fc7.bias", dict(fc7=None)),
    ("layer bn1 has 3 blobs", dict(bn1=[zeros(1)] * 3)),
    ("no place for, e.g. extra.weight", dict(extra=[zeros(4)])),
    (r"fc6.weight is \(1568, 24\)", dict(fc6=[TRANSPOSED, zeros(FC)])),
    ("score_fr.weig", dict(score_fr=[zeros(21, 25, 1, 1), zeros(21)])),
    ("upscore8.weight is", dict(upscore8=[zeros(21, 21, 15, 15)])),
    (r"upscore8.weight is \(21, 1", dict(upscore8=[zeros(21, 1, 16, 16)])),
    ("numbers that differ", dict(scale_pool4=[zeros(32)], scale_pool3=[np.arange(16.0)])),
    ("only one of the two scale", dict(scale_pool4=[zeros(32)])),
    ("NaN or inf", dict(fc7=[NAN, zeros(FC)])),
    ("its score layers are of none", dict(score_fr_sem=[zeros(3, FC, 1, 1)])),
    ("has control characters in the name", {"\x1b[31m": [zeros(1)]}),
]


def test_files_that_are_refused(tmp_path):
    good = broken(tmp_path, "good.caffemodel").read_bytes()
    (tmp_path / "half.caffemodel").write_bytes(good[: len(good) // 2])
    (tmp_path / "html.caffemodel").write_text("<html>404</html>")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(dict(a=torch.zeros(1)), tmp_path / "foreign.pth")
    cases = {
        tmp_path / "none.caffemodel": "no such file",
        tmp_path / "half.caffemodel": "half.caffemodel: .*download it again",
        tmp_path / "html.caffemodel": "begins with b'<html>40'; expected a caffemodel",
        tmp_path / "empty.pth": "empty.pth: is empty",
        tmp_path / "foreign.pth": "holds 1 tensors .a, ...",
    }
    for number, (message, changes) in enumerate(BROKEN):
        cases[broken(tmp_path, f"{number}.caffemodel", **changes)] = message
    target = tmp_path / "target.pth"
    target.write_text("precious")
    for source, message in cases.items():
        with pytest.raises(UserError, match=message) as raised:
            convert(source, target)
        assert str(source) in str(raised.value) and "\n" not in str(raised.value)
        assert target.read_text() == "precious"
    assert not list(tmp_path.glob("*.part"))


def test_what_cannot_be_asked_for(tmp_path):
    write_caffemodel(tmp_path / "8s.caffemodel", fcn_layers("fcn8s"))
    write_caffemodel(tmp_path / "atonce.caffemodel", fcn_layers("fcn8s-atonce"))
    write_caffemodel(tmp_path / "alexnet.caffemodel", alexnet_layers())
    for name, options, message in (
        ("8s", dict(net="fcn8s-atonce"), "were trained without scales"),
        ("atonce", dict(net="fcn8s"), "were trained with scales 0.0001/0.01/1,"),
        ("alexnet", dict(net="fcn8s"), "makes fcn32s, not fcn8s"),
        ("8s", dict(dataset="CamVid"), "no data set of mmseg"),
        ("8s", dict(dataset="CamVidDataset", num_classes=12), "leave one out"),
    ):
        with pytest.raises(UserError, match=message):
            convert(tmp_path / f"{name}.caffemodel", tmp_path / "out.pth", **options)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("name", ["out.pth", "out.safetensors"])
def test_a_failed_write_leaves_the_target(tmp_path, name):
    """As on a full disk: the system lets no file grow beyond 10 kB."""
    write_caffemodel(tmp_path / "a.caffemodel", fcn_layers("fcn32s"))
    target = tmp_path / name
    target.write_text("precious")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(
            UserError, match=rf"{name}: cannot be written .*choose another"
        ) as error:
            convert(tmp_path / "a.caffemodel", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(error.value)
    assert target.read_text() == "precious"
    assert not list(tmp_path.glob("*.part"))


def test_progress_goes_through_all_steps(tmp_path):
    write_caffemodel(tmp_path / "a.caffemodel", fcn_layers("fcn32s"))
    seen: dict[str, list] = {}
    convert(
        tmp_path / "a.caffemodel",
        tmp_path / "out.pth",
        progress=lambda step, done, total: seen.setdefault(step, []).append((done, total)),
    )
    assert list(seen) == ["reading", "hashing", "writing"]
    for steps in seen.values():
        assert steps == sorted(steps) and steps[-1][0] == steps[-1][1] > 0


def slim(model) -> dict[str, torch.Tensor]:
    """The tensors of a model on the meta device: of its shapes, but one number in memory."""
    return {name: torch.zeros(()).expand(t.shape) for name, t in model.state_dict().items()}


# Fully convolutional VGG16, AlexNet and GoogLeNet; the others mix parts of the host's.
OURS = [
    path
    for path in sorted(CONFIGS.glob("fcn*_v*.py"))
    if path.stem.split("_")[1] in ("vgg16", "vgg16-bn", "alexnet", "googlenet")
]


@pytest.mark.parametrize("name", ["psp_vgg16_voc", "fcn8s_r50_voc"])
def test_a_mix_is_none_of_the_published_networks(name):
    with torch.device("meta"):
        assert net_of(MODELS.build(mmengine.Config.fromfile(CONFIGS / f"{name}.py").model)) is None


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_the_config_that_is_named_fits_exactly(path):
    """From the tensors of each shipped network at full width."""
    with torch.device("meta"):
        cfg = mmengine.Config.fromfile(path)
        model = MODELS.build(cfg.model)
    net = net_of(model)
    assert net is not None
    preprocessor = cfg.model.data_preprocessor
    order = "RGB" if preprocessor.bgr_to_rgb else "BGR"
    stored = dict(order=order, mean=preprocessor.mean, std=preprocessor.std)
    result = Conversion(recognise_tensors(path, slim(model), dict(net=net, input=stored)))
    assert result.state_dict.keys() == model.state_dict().keys()
    _, _, config = result.summary.partition("; config: ")
    # The same network on other images goes by the name of the usual ones.
    same = path.name.replace("_voc2011.py", "_voc.py").replace("_voc-train.py", "_voc.py")
    if "_voc" in path.stem or path.stem.endswith(("pascal-context", "pascal-context-heavy")):
        assert Path(config).name in (path.name, same)
    else:
        assert config == ""


def test_every_config_that_is_named_is_there():
    assert len(ours.CONFIGS) == 13
    assert all((CONFIGS.parent / name).is_file() for name in ours.CONFIGS.values())


def trained(tmp_path, name, backbone, head, dataset_meta=None, **meta) -> Path:
    """A checkpoint as the runner writes it, of random weights."""
    model = MODELS.build(
        dict(
            type="EncoderDecoder",
            backbone=dict(type="ConvolutionalizedVGG", base_channels=BASE, fc_channels=FC)
            | backbone,
            decode_head=dict(type="SkipFusionHead", num_classes=5) | head,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    meta |= dict(dataset_meta=dataset_meta or dict(classes=tuple("abcde")), net=net_of(model))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), tmp_path / name)
    return tmp_path / name


EIGHT = dict(in_channels=(4 * BASE, 8 * BASE, FC), in_index=(0, 1, 2))


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ({}, EIGHT),
        (dict(norm_cfg=dict(type="BN")), EIGHT),
        (dict(depth=11), EIGHT | dict(upsample="deconv")),
        (dict(depth=13), EIGHT | dict(scale=(0.0001, 0.01, 1.0))),
        (dict(out_indices=(3, 5)), dict(in_channels=(8 * BASE, FC), in_index=(0, 1))),
    ],
    ids=["plain", "BatchNorm", "learned kernels", "at once", "16s"],
)
def test_our_own_checkpoints_come_through_unchanged(tmp_path, backbone, head):
    source = trained(tmp_path, "own.pth", backbone, head)
    result = convert(source, tmp_path / "out.pth")
    before = torch.load(source, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not result.report.new and not result.report.dropped
    assert result.dataset_meta["classes"] == tuple("abcde")
    assert len(result.dataset_meta["palette"]) == 5


def test_a_binary_head_keeps_its_single_score(tmp_path):
    head = EIGHT | dict(num_classes=2, out_channels=1, threshold=0.5)
    source = trained(tmp_path, "own.pth", {}, head, dict(classes=("no", "yes")))
    result = convert(source, tmp_path / "out.pth")
    assert result.state_dict["decode_head.score.0.weight"].abs().sum() > 0
    assert result.dataset_meta["classes"] == ("no", "yes")


@pytest.mark.parametrize(
    ("backbone", "head", "message"),
    [
        # pool5 and fc7: as wide as pool4 and fc7
        (dict(out_indices=(4, 5)), dict(in_channels=(32, FC), in_index=(0, 1)), "of none of"),
        (
            dict(out_indices=(3, 5)),
            dict(in_channels=(32, FC), in_index=(0, 1), scale=(0.01, 1.0)),
            "of none of",
        ),
        (
            dict(out_indices=(1, 2, 3, 5)),
            dict(in_channels=(8, 16, 32, FC), in_index=(0, 1, 2, 3)),
            "of none of",
        ),
        (dict(norm_cfg=dict(type="GN", num_groups=2)), EIGHT, "norm_conv1_1.running_mean"),
    ],
    ids=["pool5", "scaled 16s", "four levels", "GroupNorm"],
)
def test_our_own_that_are_none_of_the_published(tmp_path, backbone, head, message):
    with pytest.raises(UserError, match=f"{message}.*of our own checkpoints only"):
        convert(trained(tmp_path, "own.pth", backbone, head), tmp_path / "out.pth")


def test_the_same_classes_in_another_order_are_reordered(tmp_path):
    """From the published order of PASCAL-Context to the host's."""
    layers = fcn_layers("fcn16s", classes=60)
    layers["upscore2"][0] += np.random.default_rng(3).standard_normal((60, 60, 4, 4)).astype("f")
    write_caffemodel(tmp_path / "c.caffemodel", layers)
    convert(tmp_path / "c.caffemodel", tmp_path / "own.pth")
    result = convert(
        tmp_path / "c.caffemodel", tmp_path / "host.pth", dataset="PascalContextDataset"
    )
    assert result.dataset_meta["classes"][:3] == ("background", "aeroplane", "bag")
    config = "fcn16s_vgg16_pascal-context-heavy.py"
    own = predicted(host_model(config, tmp_path / "own.pth"))
    host = predicted(host_model(config, tmp_path / "host.pth"))
    for at, name in enumerate(result.dataset_meta["classes"]):
        torch.testing.assert_close(host[:, at], own[:, PUBLISHED_CLASSES.index(name)])


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
    write_caffemodel(tmp_path / "small.caffemodel", fcn_layers("fcn32s"))
    write_caffemodel(tmp_path / "large.caffemodel", fcn_layers("fcn32s", base=32, fc=1024))
    files = [tmp_path / name for name in ("small.caffemodel", "large.caffemodel", "out.pth")]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, *map(str, files)],
        capture_output=True,
        text=True,
        env=os.environ | dict(PYTHONPATH=str(CONFIGS.parent)),
    )
    assert run.returncode == 0, run.stderr
    size = files[1].stat().st_size
    assert size > 60e6
    assert 1024 * int(run.stdout.splitlines()[-1]) < 1.3 * size


def damaged(content: bytes, chance: random.Random) -> bytes:
    """``content`` after one to four accidents."""
    made = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        at = chance.randrange(len(made) or 1)
        until = min(len(made), at + chance.choice([1, 2, 5, 30]))
        match chance.choice([0, 0, 0, 1, 1, 2, 3, 4, 5, 6]):
            case 0:
                made[at:until] = [byte ^ 1 << chance.randrange(8) for byte in made[at : at + 1]]
            case 1:
                made[at:until] = chance.randbytes(until - at)
            case 2:
                del made[at:]
            case 3:
                made[at:at] = chance.randbytes(chance.choice([1, 2, 5, 30]))
            case 4:
                del made[at:until]
            case 5:
                made[at:at] = made[at:until]
            case 6:  # a huge length
                made[at : at + 1] = b"\xff" * chance.choice([1, 2, 4, 9])
    return bytes(made)


def fuzz(folder: Path, count: int, seed: int) -> Counter:
    """Damaged caffemodels end in one clean error, or in a whole checkpoint; nothing else."""
    chance, results = random.Random(seed), Counter()
    source, target = folder / "fuzzed.caffemodel", folder / "out.pth"
    originals = []
    for version in ("V1", "V2"):
        pair = []
        for numbers in (0, 1):
            layers = fcn_layers("fcn8s-atonce", classes=2, seed=numbers, base=1, fc=4)
            write_caffemodel(source, layers, version=version, legacy_shape=version == "V1")
            pair.append(source.read_bytes())
        # Where two files of other numbers agree is what is not numbers.
        frame = [i for i, (a, b) in enumerate(zip(*pair, strict=True)) if a == b]
        originals.append((pair[0], frame))
    for number in range(count):
        content, frame = originals[number % 2]
        if chance.random() < 0.2:
            content = damaged(content, chance)
        else:
            at = chance.choice(frame)
            content = content[:at] + damaged(content[at : at + 9], chance) + content[at + 9 :]
        source.write_bytes(content)
        target.write_text("precious")
        try:
            convert(source, target)
        except UserError as error:
            assert str(error).startswith(f"{source}: ") and "\n" not in str(error)
            assert target.read_text() == "precious"
            results["refused"] += 1
        else:
            state = torch.load(target, weights_only=True)["state_dict"]
            # Backbone, scores, scale; a kernel whose numbers changed counts as a learned one.
            assert 2 * 18 + 1 <= len(state) <= 2 * 18 + 4
            assert all(tensor.isfinite().all() for tensor in state.values())
            results["converted"] += 1
        assert not target.with_name("out.pth.part").exists()
    return results


@pytest.mark.parametrize(
    "count", [100, pytest.param(10_000, marks=pytest.mark.slow)], ids=lambda count: str(count)
)
def test_fuzz(tmp_path, count):
    results = fuzz(tmp_path, count, seed=count)
    assert results.total() == count
    assert results["refused"] > count / 3 and results["converted"] > count / 20
