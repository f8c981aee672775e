"""SIFT Flow's caffemodels, made in small here, become checkpoints with a head for each task."""

from pathlib import Path

import mmengine
import numpy as np
import pytest
import reference
import torch
from mmseg.apis import inference_model, init_model
from weights.caffe_files import write_caffemodel
from weights.published import BASE, FC, fcn_layers, named, siftflow_layers

from fcn_plugin.conversion.convert import convert
from fcn_plugin.conversion.network import Conversion
from fcn_plugin.data.siftflow import GEOMETRIC, SEMANTIC
from fcn_plugin.errors import UserError
from fcn_plugin.weights.recognise import recognise_tensors

CONFIGS = Path(__file__).parents[2] / "configs"
MEAN = (114.578, 115.294, 108.353)
IMAGE = np.random.default_rng(2).integers(0, 256, (97, 131, 3), dtype=np.uint8)
AT_ONCE = torch.tensor([0.0001, 0.01, 1.0]).tolist()
NETS = ("fcn32s", "fcn16s", "fcn8s")
LEVELS = {"fcn32s": (FC,), "fcn16s": (8 * BASE, FC), "fcn8s": (4 * BASE, 8 * BASE, FC)}


def caffe(folder: Path, layers, **options) -> Conversion:
    write_caffemodel(folder / "a.caffemodel", layers)
    return convert(folder / "a.caffemodel", folder / "out.pth", **options)


def model(net: str, checkpoint: Path, **options):
    """``init_model`` on the shipped config, at the widths of these files."""
    cfg = mmengine.Config.fromfile(CONFIGS / f"{net}_vgg16_siftflow-heavy.py")
    cfg.model.backbone.update(base_channels=BASE, fc_channels=FC, init_cfg=None)
    for head in (cfg.model.decode_head, cfg.model.task_heads.geo):
        head.in_channels = LEVELS[net]
    cfg.merge_from_dict(options)
    return init_model(cfg, str(checkpoint), device="cpu")


def scores(model, image: np.ndarray = IMAGE) -> dict[str, torch.Tensor]:
    """Of both tasks, through the config's own preprocessing."""
    model = model.double()
    inputs = torch.from_numpy(image).permute(2, 0, 1)
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=[inputs]))["inputs"].double()
        features = model.extract_feat(data)
        heads = {"sem": model.decode_head, **model.task_heads}
        return {task: head(features) for task, head in heads.items()}


def difference(found: dict[str, torch.Tensor], layers, net: str, mean=MEAN) -> float:
    """From the independent reference, relative to the largest score."""
    weights = {name: tensor.double() for name, tensor in named(layers).items()}
    image = torch.from_numpy(IMAGE - np.array(mean)).permute(2, 0, 1)[None]
    expected = reference.run(f"siftflow-{net}", image, weights)
    return max(
        float((found[task] - expected[f"score_{task}"]).abs().max() / scale)
        for task in found
        for scale in [expected[f"score_{task}"].abs().max()]
    )


@pytest.mark.parametrize("net", NETS)
def test_both_heads_score_as_the_reference(tmp_path, net):
    layers = siftflow_layers(net)
    result = caffe(tmp_path, layers)
    assert (result.net, result.weights.input.mean) == (net, MEAN)
    assert {*result.report.used, *result.report.dropped} == {*named(layers)}
    assert not result.report.new and all("upscore" in name for name in result.report.dropped)
    assert "33 classes and 3 of geo" in result.summary
    made = model(net, tmp_path / "out.pth")
    meta = made.dataset_meta
    assert meta["classes"] == SEMANTIC and meta["tasks"]["geo"]["classes"] == GEOMETRIC
    found = scores(made)
    # The checkpoint is in single precision.
    assert difference(found, layers, net) <= 1e-5
    # Another network's mean, and the heads' weights exchanged, would show.
    assert difference(found, layers, net, mean=(104.0, 116.7, 122.7)) > 1e-3
    layers["score_fr_geo"] = [layers["score_fr_sem"][i][:3] for i in (0, 1)]
    assert difference(found, layers, net) > 1e-2


def test_mmsegs_inferencer_predicts_both(tmp_path):
    caffe(tmp_path, siftflow_layers("fcn8s"))
    made = model("fcn8s", tmp_path / "out.pth")
    sample = inference_model(made, IMAGE)
    expected = {task: score.argmax(1) for task, score in scores(made).items()}
    for task, name in dict(sem="pred_sem_seg", geo="pred_geo_seg").items():
        found = sample.get(name).data
        assert found.shape == (1, *IMAGE.shape[:2])
        assert (found == expected[task]).double().mean() > 0.999


def test_the_next_stage_of_a_checkpoint(tmp_path):
    caffe(tmp_path, siftflow_layers("fcn32s"))
    result = convert(tmp_path / "out.pth", tmp_path / "next.pth", net="fcn16s")
    heads = ("decode_head", "task_heads.geo")
    kinds = ("bias", "weight")
    assert result.report.new == [f"{head}.score.0.{kind}" for head in heads for kind in kinds]
    before, after = (torch.load(tmp_path / f"{n}.pth")["state_dict"] for n in ("out", "next"))
    for head in heads:
        assert torch.equal(before[f"{head}.score.0.weight"], after[f"{head}.score.1.weight"])
        assert not after[f"{head}.score.0.weight"].any()
    assert model("fcn16s", tmp_path / "next.pth").dataset_meta["tasks"]["geo"]
    assert result.weights.dataset_meta["tasks"]["geo"]["classes"] == GEOMETRIC


def test_a_learned_kernel_of_one_head(tmp_path):
    layers = siftflow_layers("fcn16s")
    layers["upscore2_geo"][0] += np.random.default_rng(3).standard_normal((3, 3, 4, 4)).astype("f")
    result = caffe(tmp_path, layers)
    kernel = result.state_dict["task_heads.geo.upscore.1.deconv.weight"]
    assert torch.equal(kernel, torch.from_numpy(layers["upscore2_geo"][0]))
    assert "upscore2_sem.weight" in result.report.dropped
    assert difference(scores(model("fcn16s", tmp_path / "out.pth")), layers, "fcn16s") > 1e-2


def test_factors_are_those_of_all_heads(tmp_path):
    caffe(tmp_path, siftflow_layers("fcn32s"), net="fcn8s-atonce")
    result = convert(tmp_path / "out.pth", tmp_path / "same.pth")
    names = [f"{head}.level_scale" for head in ("decode_head", "task_heads.geo")]
    assert all(result.state_dict[name].tolist() == AT_ONCE for name in names)
    assert not result.report.dropped and set(names) < set(result.report.used)
    options = {f"model.{name[:-12]}.scale": AT_ONCE for name in names}
    assert model("fcn8s", tmp_path / "same.pth", **options).task_heads.geo.scale
    content = torch.load(tmp_path / "same.pth")
    content["state_dict"][names[1]] = torch.ones(3)
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"geo.level_scale differs from the main head's"):
        convert(tmp_path / "other.pth", tmp_path / "out.pth")


def test_two_networks_become_two_streams_with_all_tasks(tmp_path):
    """Each task's scores are the mean of the two networks'; the target goes through once more."""
    alone = []
    for name in ("a", "b"):
        layers = siftflow_layers("fcn16s")
        for task in ("sem", "geo"):
            weight, bias = layers[f"score_pool4_{task}"]
            layers[f"score_pool4_{task}"] = [weight * (1 if name == "a" else -3), bias]
        write_caffemodel(tmp_path / f"{name}.caffemodel", layers)
        convert(tmp_path / f"{name}.caffemodel", tmp_path / f"{name}.pth")
        alone.append(scores(model("fcn16s", tmp_path / f"{name}.pth")))
    first, second = (tmp_path / f"{name}.caffemodel" for name in ("a", "b"))
    result = convert(first, tmp_path / "both.pth", second=second)
    assert "2 streams of fcn16s on vgg16, 33 classes and 3 of geo" in result.summary
    cfg = mmengine.Config.fromfile(CONFIGS / "fcn16s_vgg16_siftflow-heavy.py")
    vgg = dict(cfg.model.backbone, base_channels=BASE, fc_channels=FC, init_cfg=None)
    cfg.model.backbone = dict(type="Streams", streams=[vgg, vgg], channels=(3, 3))
    for head in (cfg.model.decode_head, cfg.model.task_heads.geo):
        levels = (8 * BASE, 8 * BASE, FC, FC)
        head.update(in_channels=levels, in_index=range(4), strides=(16, 16, 32, 32))
    cfg.model.data_preprocessor = dict(type="BandsPreProcessor", mean=MEAN * 2, std=(1.0,) * 6)
    twice = np.concatenate([IMAGE, IMAGE], axis=-1)
    found = scores(init_model(cfg, str(tmp_path / "both.pth"), device="cpu"), twice)
    for task, score in found.items():
        expected = (alone[0][task] + alone[1][task]) / 2
        # BandsPreProcessor subtracts in single precision.
        assert (score - expected).abs().max() <= 1e-6 * expected.abs().max()
        assert (score - alone[0][task]).abs().max() > 1e-2 * expected.abs().max()
    content = torch.load(tmp_path / "both.pth")
    del content["meta"]["net"]  # told by its layers, too
    torch.save(content, tmp_path / "both.pth")
    again = convert(tmp_path / "both.pth", tmp_path / "again.pth")
    assert again.tasks == {"geo": 3} and not again.report.dropped and not again.report.new
    assert again.state_dict.keys() == result.state_dict.keys()
    assert all(torch.equal(again.state_dict[k], v) for k, v in result.state_dict.items())
    write_caffemodel(second, fcn_layers("fcn16s", classes=33))
    with pytest.raises(UserError, match=r"b\.caffemodel: other further tasks than .*a\.caffemodel"):
        convert(first, tmp_path / "out.pth", second=second)


def test_other_classes_leave_the_tasks_out(tmp_path):
    result = caffe(tmp_path, siftflow_layers("fcn8s"), dataset="CamVidDataset")
    assert not any(name.startswith("task_heads") for name in result.state_dict)
    assert "tasks" not in result.dataset_meta and result.config is None
    assert result.report.dropped["score_fr_geo.weight"] == "for 33 other classes"


@pytest.mark.parametrize(
    ("lost", "missing"),
    [
        ("score_pool3_geo", "score_pool3_geo.bias"),
        ("upscore8_geo", "upscore8_geo.weight"),
        ("geo", "score_fr_geo.weight"),  # all of the second head
        ("score_pool3_sem", "upscore16.weight"),  # what is left looks like FCN-16s
    ],
)
def test_a_truncated_file(tmp_path, lost, missing):
    layers = {k: v for k, v in siftflow_layers("fcn8s").items() if not k.endswith(lost)}
    with pytest.raises(UserError, match=f"e.g. {missing}; the file is damaged, truncated"):
        caffe(tmp_path, layers)


@pytest.mark.parametrize("head", ["sem", "geo"])
def test_a_score_without_dimensions(tmp_path, head):
    layers = siftflow_layers("fcn8s") | {f"score_fr_{head}": [np.zeros((), np.float32)] * 2}
    with pytest.raises(UserError, match=r"; the file is damaged, truncated"):
        caffe(tmp_path, layers)


def test_a_file_with_one_task_is_as_ever(tmp_path):
    result = caffe(tmp_path, fcn_layers("fcn8s", classes=33))
    assert not result.tasks and "tasks" not in result.dataset_meta and result.config is None
    assert result.dataset_meta["classes"][0] == "class 0"


def test_another_network_of_two_tasks_tells_no_mean(tmp_path):
    layers = siftflow_layers("fcn32s")
    other = fcn_layers("fcn32s", classes=5)
    layers |= {name: other[name.removesuffix("_geo")] for name in layers if name.endswith("_geo")}
    result = caffe(tmp_path, layers)
    assert result.tasks == {"geo": 5} and result.weights.input is None and result.config is None
    assert result.dataset_meta["classes"][0] == "class 0"


def test_the_shipped_config_is_named(tmp_path):
    """From tensors of full width, of one number each in memory."""
    layers = named(siftflow_layers("fcn8s"))
    wide = {
        name: torch.zeros(()).expand([self_wide(name, i, n) for i, n in enumerate(tensor.shape)])
        for name, tensor in layers.items()
    }
    result = Conversion(recognise_tensors(tmp_path / "a.caffemodel", wide, {}))
    assert result.config == "fcn8s_vgg16_siftflow-heavy"


def self_wide(name: str, axis: int, number: int) -> int:
    """The width of the published network."""
    if axis > 1 or number in (3, 33) or "upscore" in name:
        return number
    return 4096 if number == FC else number * 64 // BASE
