"""Names of two PyTorch projects' FCNs: pytorch-semseg's on VGG16, torchvision's on ResNet.

pytorch-semseg's (ptsemseg/models/fcn.py) are translated to the Caffe files' names. torchvision's
(models/segmentation) are no skip-fusion networks and become mmseg's own FCN, so that its names are
translated to mmseg's.
"""

from collections.abc import Collection

from fcn_plugin.weights.names import CONV, NORM, Layout
from fcn_plugin.weights.networks import COUNT, VGG_CONVS
from fcn_plugin.weights.sources import TORCHVISION

SEMSEG_HEAD = {
    "classifier.0": "fc6",
    "classifier.3": "fc7",
    "classifier.6": "score_fr",
    "score_pool4": "score_pool4",
    "score_pool3": "score_pool3",
}
SEMSEG_UPSCORES = {
    "upscore2": "upscore2",
    "upscore4": "upscore_pool4",
    "upscore8": "upscore8",
}
SEMSEG_INPUT = (
    "the file does not tell its input; give it in the config. pytorch-semseg's loaders: BGR, mean "
    "104.00699/116.66877/122.67892 (Cityscapes: 0/0/0), std 255/255/255 (img_norm=False: 1/1/1); "
    "Pascal VOC since August 2018: torchvision's"
)
SEMSEG_STRETCHED = (
    "the layers up to the scores are the same, the scores of the image are not: pytorch-semseg "
    "resizes the score map, border of 100 pixels included, to the image; here the border is cut "
    "off, as in the paper. Train on before you use it"
)
RESNETS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}  # blocks in each stage (He et al., table 1)
HEADS = {"classifier": "decode_head", "aux_classifier": "auxiliary_head"}


def recognise_pytorch(names: Collection[str]) -> Layout | None:
    """The layout of a file whose tensors have these names; None if it is neither's."""
    return _pytorch_semseg(set(names)) or _torchvision_fcn(set(names))


def _pytorch_semseg(names: set[str]) -> Layout | None:
    """FCN-32s, 16s or 8s; the second generation of FCN-8s has upsampling layers."""
    if "conv_block1.0.weight" not in names or "classifier.6.weight" not in names:
        return None
    layers = SEMSEG_HEAD | {
        f"conv_block{stage}.{2 * conv}": f"conv{stage}_{conv + 1}"
        for stage, convs in enumerate(VGG_CONVS[16], start=1)
        for conv in range(convs)
    }
    table = {f"{own}.{kind}": f"{layer}.{kind}" for own, layer in layers.items() for kind in CONV}
    upscores = any(name.startswith("upscore") for name in names)
    table |= {f"{own}.weight": f"{layer}.weight" for own, layer in SEMSEG_UPSCORES.items()}
    return Layout(
        "pytorch-semseg's FCN on vgg16",
        table,
        "vgg16",
        None,
        segmentor=True,
        may_be_at_once=False,
        upscores=upscores,
        notes=(SEMSEG_INPUT,) if upscores else (SEMSEG_INPUT, SEMSEG_STRETCHED),
    )


def _torchvision_fcn(names: set[str]) -> Layout | None:
    """fcn_resnet50 or 101, with or without the auxiliary classifier."""
    for depth, blocks in RESNETS.items():
        table = _resnet(blocks)
        for own, head in HEADS.items():
            table |= {f"{own}.0.weight": f"{head}.convs.0.conv.weight"}
            table |= {f"{own}.1.{kind}": f"{head}.convs.0.bn.{kind}" for kind in NORM}
            table |= {f"{own}.4.{kind}": f"{head}.conv_seg.{kind}" for kind in CONV}
        optional = {name for name in table if name.startswith("aux_") or name.endswith(COUNT)}
        if set(table) - optional <= names <= set(table):
            title = f"torchvision's FCN on ResNet-{depth}"
            return Layout(title, table, f"resnet{depth}", TORCHVISION)
    return None


def _resnet(blocks: tuple[int, ...]) -> dict[str, str]:
    """torchvision's names of a ResNet of bottlenecks, which are mmseg's."""
    layers = {"conv1": ("weight",), "bn1": NORM}
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            prefix = f"layer{stage}.{block}"
            layers |= {f"{prefix}.conv{i}": ("weight",) for i in (1, 2, 3)}
            layers |= {f"{prefix}.bn{i}": NORM for i in (1, 2, 3)}
        layers |= {f"layer{stage}.0.downsample.0": ("weight",)}
        layers |= {f"layer{stage}.0.downsample.1": NORM}
    full = (f"backbone.{layer}.{kind}" for layer, kinds in layers.items() for kind in kinds)
    return {name: name for name in full}
