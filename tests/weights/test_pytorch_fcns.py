"""The FCNs of pytorch-semseg and torchvision: converted, their scores are the plain networks'.

torchvision's network is written here from its layer table, in PyTorch's plain functions.
"""

from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from mmengine.config import Config
from mmseg.apis import init_model
from mmseg.registry import MODELS
from torch import Tensor
from torch.nn import functional
from weights.published import fcn_layers, named
from weights.torchvision_fcn import BLOCKS, WIDTH, fcn_resnet

from fcn_plugin.conversion.convert import convert
from fcn_plugin.errors import UserError
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.weights.files import read_content

CONFIGS = Path(__file__).parents[2] / "configs"
IMAGE = np.random.default_rng(6).integers(0, 256, (75, 102, 3), dtype=np.uint8)  # BGR
CONVS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 3}


def difference(found: Tensor, plain: Tensor) -> float:
    return float((found - plain).abs().max() / plain.abs().max())


# --- pytorch-semseg -----------------------------------------------------------------------------


def semseg(net: str, classes: int = 21, upscores: bool = False) -> tuple[dict, dict]:
    """The state_dict of one of its networks, and the same tensors by Caffe's names."""
    caffe = named(fcn_layers(net, classes))
    own = {"fc6": "classifier.0", "fc7": "classifier.3", "score_fr": "classifier.6"}
    own |= {"upscore_pool4": "upscore4"}
    for stage, convs in CONVS.items():
        own |= {f"conv{stage}_{i + 1}": f"conv_block{stage}.{2 * i}" for i in range(convs)}
    state = {}
    for name, tensor in caffe.items():
        layer, _, kind = name.partition(".")
        if upscores or "upscore" not in layer:
            state[f"{own.get(layer, layer)}.{kind}"] = tensor
    return state, caffe


def checkpoint(state: dict) -> dict:
    """As its train.py saves a network under DataParallel."""
    model = {f"module.{name}": tensor for name, tensor in state.items()}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    return dict(
        epoch=300,
        model_state=model,
        optimizer_state=optimizer.state_dict(),
        scheduler_state=schedule.state_dict(),
        best_iou=np.float64(0.5),
    )


def pixels() -> Tensor:
    """As its loaders for other sets than VOC."""
    values = (IMAGE - np.array([104.00699, 116.66877, 122.67892])) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def ours(result) -> tuple[list[Tensor], Tensor, SkipFusionHead]:
    """Levels, scores and head of a conversion."""
    backbone = MODELS.build(result.settings | dict(padding="reference")).double().eval()
    with torch.no_grad():
        channels = [level.shape[1] for level in backbone(pixels())]
        head = SkipFusionHead(channels, range(len(channels)), result.num_classes).double().eval()
        for part, module in (("backbone.", backbone), ("decode_head.", head)):
            tensors = result.state_dict.items()
            module.load_state_dict({n.removeprefix(part): t for n, t in tensors if part in n})
        levels = backbone(pixels())
        return levels, head(levels, IMAGE.shape[:2]), head


def test_semsegs_fcn8s_with_upsampling_layers_is_the_published_network(tmp_path):
    state, caffe = semseg("fcn8s", upscores=True)
    torch.save(checkpoint(state), tmp_path / "fcn8s_pascal_best_model.pkl")
    result = convert(tmp_path / "fcn8s_pascal_best_model.pkl", tmp_path / "out.pth")
    assert result.net == "fcn8s" and result.weights.input is None
    assert "does not say whether it is fcn8s" not in str(result)
    assert "does not tell its input" in str(result) and "border" not in str(result)
    weights = {name: tensor.double() for name, tensor in caffe.items()}
    plain = reference.run("fcn8s", pixels(), weights)["score"]
    _, scores, _ = ours(result)
    assert difference(scores, plain) <= 1e-10
    moved = reference.run("fcn8s", pixels(), weights, "crop moved by one")["score"]
    assert difference(scores, moved) > 1e-3


@pytest.mark.parametrize("net", ["fcn32s", "fcn16s", "fcn8s"])
def test_semsegs_other_fcns_have_the_same_layers_and_other_scores(tmp_path, net):
    """Its forward pass, from the layers of the plain network: stretched, nothing cropped."""
    state, caffe = semseg(net, classes=12)
    torch.save(checkpoint(state), tmp_path / "best.pkl")
    result = convert(tmp_path / "best.pkl", tmp_path / "out.pth")
    assert result.net == net and result.num_classes == 12
    assert "resizes the score map" in str(result) and not result.report.new
    weights = {name: tensor.double() for name, tensor in caffe.items()}
    plain = reference.run(net, pixels(), weights)
    levels, scores, head = ours(result)
    names = {"fcn32s": ["fc7"], "fcn16s": ["pool4", "fc7"], "fcn8s": ["pool3", "pool4", "fc7"]}
    score_names = [f"score_{name}".replace("fc7", "fr") for name in names[net]]
    with torch.no_grad():
        of_levels = [score(level) for score, level in zip(head.score, levels, strict=True)]
    for level, name, score, score_name in zip(
        levels, names[net], of_levels, score_names, strict=True
    ):
        assert difference(level, plain[name]) <= 1e-10, name
        assert difference(score, plain[score_name]) <= 1e-10, score_name
    stretched = plain["score_fr"]
    for score in reversed([plain[name] for name in score_names[:-1]]):
        stretched = functional.interpolate(stretched, score.shape[2:], mode="bilinear") + score
    stretched = functional.interpolate(stretched, IMAGE.shape[:2], mode="bilinear")
    assert difference(scores, plain["score"]) <= 1e-10
    assert difference(scores, stretched) > 1e-1  # as the report says


# --- torchvision --------------------------------------------------------------------------------


def plain_scores(state: dict[str, Tensor], depth: int, mistake: str = "") -> Tensor:
    """Scores of IMAGE, RGB as torchvision's weights take it.

    Stages 3 and 4 have stride 1, and dilations 2 and 4, but in their first block 1 and 2.
    """
    w = {name: tensor.double() for name, tensor in state.items()}

    def conv(x: Tensor, name: str, **window: int) -> Tensor:
        return functional.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), **window)

    def norm(x: Tensor, name: str) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(w[f"{name}.{kind}"] for kind in kinds))

    rgb = IMAGE if mistake == "BGR" else IMAGE[:, :, ::-1]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image = torch.from_numpy((rgb / 255 - mean) / std).permute(2, 0, 1)[None]
    x = norm(conv(image, "backbone.conv1", stride=2, padding=3), "backbone.bn1").relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate(BLOCKS[depth], start=1):
        for block in range(blocks):
            prefix, before = f"backbone.layer{stage}.{block}", x
            dilation = {3: 2, 4: 4}.get(stage, 1)
            if block == 0 and mistake != "own dilation in the first block":
                dilation = max(dilation // 2, 1)
            stride = 2 if stage == 2 and block == 0 else 1
            x = norm(conv(x, f"{prefix}.conv1"), f"{prefix}.bn1").relu()
            window = dict(stride=stride, padding=dilation, dilation=dilation)
            x = norm(conv(x, f"{prefix}.conv2", **window), f"{prefix}.bn2").relu()
            x = norm(conv(x, f"{prefix}.conv3"), f"{prefix}.bn3")
            if block == 0:
                before = conv(before, f"{prefix}.downsample.0", stride=stride)
                before = norm(before, f"{prefix}.downsample.1")
            x = (x + before).relu()
    x = norm(conv(x, "classifier.0", padding=1), "classifier.1").relu()
    corners = mistake == "corners aligned"
    size = IMAGE.shape[:2]
    return functional.interpolate(
        conv(x, "classifier.4"), size, mode="bilinear", align_corners=corners
    )


@pytest.mark.parametrize("depth", BLOCKS)
def test_torchvisions_fcn_under_mmsegs_own(tmp_path, depth):
    state = fcn_resnet(depth)
    old = {name: t for name, t in state.items() if "tracked" not in name}  # from before 2018
    torch.save(state if depth == 50 else old, tmp_path / "fcn.pth")
    result = convert(tmp_path / "fcn.pth", tmp_path / "out.pth")
    assert result.config == f"fcn_r{depth}-d8_voc" and "RGB" in str(result)
    cfg = Config.fromfile(CONFIGS / f"{result.config}.py")
    cfg.model.backbone.update(base_channels=WIDTH, stem_channels=WIDTH, init_cfg=None)
    cfg.model.decode_head.update(in_channels=32 * WIDTH, channels=8 * WIDTH)
    cfg.model.auxiliary_head.update(in_channels=16 * WIDTH, channels=4 * WIDTH)
    model = init_model(cfg, str(tmp_path / "out.pth"), device="cpu").double()
    stored = read_content(tmp_path / "out.pth")["state_dict"]
    assert stored.keys() == model.state_dict().keys()
    assert model.dataset_meta["classes"][15] == "person"
    with torch.no_grad():
        # What the preprocessor does in float32: 123.675 is 0.485 x 255.
        values = cfg.model.data_preprocessor
        assert values.bgr_to_rgb
        image = (IMAGE[:, :, ::-1] - np.array(values.mean)) / np.array(values.std)
        image = torch.from_numpy(image).permute(2, 0, 1)[None]
        found = model.encode_decode(image, [dict(img_shape=IMAGE.shape[:2])])
    assert difference(found, plain_scores(state, depth)) <= 1e-10
    for mistake in ("own dilation in the first block", "corners aligned", "BGR"):
        assert difference(found, plain_scores(state, depth, mistake)) > 1e-3, mistake


def test_what_torchvisions_fcn_cannot_become(tmp_path):
    state = fcn_resnet(50)
    torch.save(state, tmp_path / "fcn.pth")
    for options in (dict(net="fcn8s"), dict(num_classes=5), dict(dataset="CamVidDataset")):
        with pytest.raises(UserError, match="is converted as it is"):
            convert(tmp_path / "fcn.pth", tmp_path / "out.pth", **options)
    del state["backbone.layer3.2.conv2.weight"]
    torch.save(state, tmp_path / "fcn.pth")
    with pytest.raises(UserError, match="holds 333 tensors"):
        convert(tmp_path / "fcn.pth", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
