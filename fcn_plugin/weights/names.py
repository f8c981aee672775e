"""Each publisher's names for the same layers, translated to the Caffe files' names.

Whatever the publisher, a tensor ends up as Caffe's layer name and its kind: ``conv1_1.weight``,
``inception_3a/1x1.bias``, ``norm_conv1_1.running_mean``, ``score_fr.weight``. EfficientNet, of
which there is no Caffe file, gets timm's names. The publisher is recognised by the names in the
file, see ``recognise``.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fcn_plugin.weights.networks import (
    COUNT,
    EARLY_FUSION,
    LITE0_BLOCKS,
    MAIN_ENDING,
    NETS,
    OF_BACKBONE,
    STREAMS,
    VGG_CONVS,
    caffe_name,
    net_name,
    of_stream,
    of_task,
)
from fcn_plugin.weights.sources import (
    CAFFE_GOOGLENET,
    CAFFE_VGG,
    CAFFENET,
    EFFICIENTNET_LITE,
    FEATURES_ONLY,
    INCEPTION,
    TORCHVISION,
    VOC,
    Input,
)


@dataclass
class Layout:
    """One publisher's names for one network.

    Attributes:
        title: the publisher and network, for messages.
        names: the file's name of a tensor -> Caffe's name, or timm's.
        classifier: the key in ``networks.BACKBONES``, or the name of a network of timm.
        input: the input it was trained on, None if the file's names do not tell.
        dropped: the file's name of a tensor that is not used -> why.
        segmentor: whether it scores segmentation classes.
        published: whether it is another publisher's, and so has all layers of the network.
        features_only: whether it lacks the fully connected layers.
        may_be_at_once: whether such files of FCN-8s do not tell that the skips are scaled.
        upscores: whether a segmentor's file holds the upsampling layers.
        notes: what is to be known before the weights are used, unless it is a published file.
        streams: what the names of the layers end with, one for each stream of late fusion.
        several_tasks: whether it must score further tasks beside the main one.
    """

    title: str
    names: dict[str, str]
    classifier: str
    input: Input | None
    dropped: dict[str, str] = field(default_factory=dict)
    segmentor: bool = False
    published: bool = True
    features_only: bool = False
    may_be_at_once: bool = True
    upscores: bool = True
    notes: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    several_tasks: bool = False


IMAGENET = "the classifier's own classes; scored anew"  # of ImageNet, if it is as published
AUXILIARY = "an auxiliary classifier, which only helps to train GoogLeNet"
BEFORE_CLASSES = "the layer before the ImageNet classes, which no level of the backbone is"
NO_PLACE = "neither of the backbone nor of a skip-fusion head"

CONV = ("weight", "bias")
NORM = ("weight", "bias", "running_mean", "running_var", COUNT)

# A score layer of one of our heads.
OWN_SCORE = re.compile(r"(decode_head|task_heads\.\w+)\.score\.")

# In torchvision's VGG a dropout follows each ReLU; in justincj's VGG and torchvision's AlexNet it
# precedes the layer. In all of them ImageNet's classes are the last layer.
TORCHVISION_FC = {"classifier.0": "fc6", "classifier.3": "fc7"}
JUSTINCJ_FC = {"classifier.1": "fc6", "classifier.4": "fc7"}
LAST_FC = dict.fromkeys(("classifier.6.weight", "classifier.6.bias"), IMAGENET)
ALEXNET_CONVS = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
}
GOOGLENET_CONVS = {
    "conv1": "conv1/7x7_s2",
    "conv2": "conv2/3x3_reduce",
    "conv3": "conv2/3x3",
    **{
        f"inception{block}.branch{branch}": f"inception_{block}/{layer}"
        for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
        for branch, layer in (
            ("1", "1x1"),
            ("2.0", "3x3_reduce"),
            ("2.1", "3x3"),
            ("3.0", "5x5_reduce"),
            ("3.1", "5x5"),
            ("4.1", "pool_proj"),
        )
    },
}
# Layers of an EfficientNet's block; the one block of the first stage does not expand.
LITE_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
LITE_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def recognise(names: Collection[str]) -> Layout | None:
    """The layout of a file whose tensors have these names; None if it is unknown."""
    publishers = (
        *(_own, _torchvision_vgg, _torchvision_alexnet, _torchvision_googlenet),
        *(_efficientnet_lite0, _caffe),
    )
    for publisher in publishers:
        if layout := publisher(set(names)):
            return layout
    return None


def _own(names: set[str]) -> Layout | None:
    """Our own checkpoints, of a segmentor or of a backbone."""
    of_backbone = {name for name in names if OF_BACKBONE.match(name)}
    if not of_backbone:
        return None
    streams = STREAMS if any("streams." in name for name in of_backbone) else ()
    if any(f"streams.{len(STREAMS)}." in name for name in of_backbone):
        return None  # more than the published network's
    of_each = streams or ("",)  # each level is there once for each stream
    layers: dict[str, str] = {}
    table: dict[str, str] = {}
    for head in sorted({match[1] for match in map(OWN_SCORE.match, names) if match}):
        task = None if head == "decode_head" else head.partition(".")[2]
        table[f"{head}.level_scale"] = of_task("level_scale", task)
        levels = sum(f"{head}.score.{i}.weight" in names for i in range(len(names)))
        if (name := net_name(levels // len(of_each), at_once=False)) is not None:
            net = NETS[name]
            for i, (score, upscore) in enumerate(zip(net.scores, net.upscores, strict=True)):
                first = i * len(of_each)
                for number, stream in enumerate(of_each):
                    layers[f"{head}.score.{first + number}"] = f"{of_task(score, task)}{stream}"
                layers[f"{head}.upscore.{first}.deconv"] = of_task(upscore, task)
    whole_model = any(name.startswith("backbone.") for name in names)
    dropped = {}
    for name in sorted(names):
        layer, _, kind = name.rpartition(".")
        if name in of_backbone:
            table[name] = caffe_name(name.removeprefix("backbone."))
        elif layer in layers:
            table[name] = f"{layers[layer]}.{kind}"
        elif whole_model and name not in table and not (streams and ".upscore." in name):
            dropped[name] = NO_PLACE
    if (classifier := _classifier(table.values(), streams)) is None:
        return None
    segmentor = any(name.startswith("decode_head.score.") for name in names)
    return Layout(
        *("fcn_plugin's checkpoint", table, classifier, None, dropped, segmentor),
        published=False,
        streams=streams,
    )


def _torchvision_vgg(names: set[str]) -> Layout | None:
    """torchvision's VGG of any depth, with or without BatchNorm; justincj's VGG-16."""
    features = {name for name in names if name.startswith("features.")}
    for depth, convs in VGG_CONVS.items():
        for norm in (False, True):
            table = dict(_vgg_features(convs, norm))
            if _without_counts(features) != _without_counts(table):
                continue
            justincj = "classifier.1.weight" in names
            layout = Layout(
                f"{'justincj' if justincj else 'torchvision'}'s VGG-{depth}"
                + (" with BatchNorm" if norm else ""),
                table | _weights_and_biases(JUSTINCJ_FC if justincj else TORCHVISION_FC),
                f"vgg{depth}{'_bn' if norm else ''}",
                CAFFE_VGG if justincj else TORCHVISION,
                LAST_FC,
            )
            return features_only(layout) if features == names else layout
    return None


def features_only(layout: Layout) -> Layout:
    """``layout`` without fc6 and fc7. The one such VGG-16 was trained on another input."""
    return replace(
        layout,
        title=f"{layout.title}, features only",
        input=FEATURES_ONLY if layout.classifier == "vgg16" else layout.input,
        features_only=True,
    )


def _without_counts(names: Collection[str]) -> set[str]:
    return {name for name in names if not name.endswith(COUNT)}


def _vgg_features(convs: tuple[int, ...], norm: bool) -> Iterator[tuple[str, str]]:
    """(torchvision's name, Caffe's) of each tensor of the convolutions.

    torchvision numbers all layers: each convolution, norm and ReLU, and the pooling that ends a
    stage.
    """
    index = 0
    for stage, count in enumerate(convs, start=1):
        for conv in range(1, count + 1):
            for kind in CONV:
                yield f"features.{index}.{kind}", f"conv{stage}_{conv}.{kind}"
            if norm:
                index += 1
                for kind in NORM:
                    yield f"features.{index}.{kind}", f"norm_conv{stage}_{conv}.{kind}"
            index += 2
        index += 1


def _torchvision_alexnet(names: set[str]) -> Layout | None:
    convs = _weights_and_biases(ALEXNET_CONVS)
    if {name for name in names if name.startswith("features.")} != set(convs):
        return None
    table = convs | _weights_and_biases(JUSTINCJ_FC)
    return Layout("torchvision's AlexNet", table, "alexnet", TORCHVISION, LAST_FC)


def _torchvision_googlenet(names: set[str]) -> Layout | None:
    if "inception3a.branch1.conv.weight" not in names:
        return None
    table = {}
    for source, target in GOOGLENET_CONVS.items():
        table[f"{source}.conv.weight"] = f"{target}.weight"
        *block, layer = target.split("/")
        for kind in NORM:
            table[f"{source}.bn.{kind}"] = f"{'/'.join([*block, f'norm_{layer}'])}.{kind}"
    auxiliary = [name for name in names if name.startswith(("aux1.", "aux2."))]
    dropped = dict.fromkeys(("fc.weight", "fc.bias"), IMAGENET)
    dropped |= dict.fromkeys(auxiliary, AUXILIARY)
    return Layout("torchvision's GoogLeNet", table, "googlenet-torchvision", INCEPTION, dropped)


def _efficientnet_lite0(names: set[str]) -> Layout | None:
    """efficientnet_lite_pytorch's, which numbers the blocks of all stages as one list."""
    if "_conv_stem.weight" not in names:
        return None
    layers = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
    stages = [(stage, i) for stage, blocks in enumerate(LITE0_BLOCKS) for i in range(blocks)]
    for index, (stage, block) in enumerate(stages):
        for source, target in (LITE_BLOCK if stage else LITE_FIRST_BLOCK).items():
            layers[f"_blocks.{index}.{source}"] = f"blocks.{stage}.{block}.{target}"
    table = {
        f"{source}.{kind}": f"{target}.{kind}"
        for source, target in layers.items()
        for kind in (NORM if "_bn" in source else ("weight",))
    }
    before = ("_conv_head.weight", *(f"_bn1.{kind}" for kind in NORM))
    dropped = dict.fromkeys(before, BEFORE_CLASSES)
    dropped |= dict.fromkeys(("_fc.weight", "_fc.bias"), IMAGENET)
    return Layout("EfficientNet-Lite0", table, "tf_efficientnet_lite0", EFFICIENTNET_LITE, dropped)


def _caffe(names: set[str]) -> Layout | None:
    """Files with Caffe's own names: caffemodels and pytorch-fcn's."""
    streams = STREAMS if f"conv1_1{STREAMS[0]}.weight" in names else ()
    table = {name: name.replace(EARLY_FUSION, "conv1_1") for name in sorted(names)}
    classifier = _classifier(table.values(), streams)
    if classifier is None:
        return None
    dropped = {}
    for name in sorted(names):
        layer = name.rpartition(".")[0]
        if layer in ("fc8", "loss3/classifier"):
            dropped[name] = IMAGENET
        elif layer.startswith(("loss1/", "loss2/")):
            dropped[name] = AUXILIARY
    segmentor = any(name.startswith("score") for name in names)
    several = f"score_fr{MAIN_ENDING}.weight" in names and "score_fr.weight" not in names
    imagenet = {"caffenet": CAFFENET, "googlenet": CAFFE_GOOGLENET}.get(classifier, CAFFE_VGG)
    return Layout(
        f"Caffe's {'FCN on ' if segmentor else ''}{classifier}",
        {
            name: target.replace(f"{MAIN_ENDING}.", ".") if several else target
            for name, target in table.items()
            if name not in dropped
        },
        classifier,
        VOC if segmentor else imagenet,
        dropped,
        segmentor,
        streams=streams,
        several_tasks=several,
    )


def _classifier(names: Iterable[str], streams: tuple[str, ...] = ()) -> str | None:
    """The key in ``BACKBONES`` of the classifier with these tensors (Caffe's names).

    Of ``streams`` each must be the same.
    """
    if streams:
        kinds = {_classifier(of_stream(names, stream)) for stream in streams}
        return kinds.pop() if len(kinds) == 1 else None
    names = set(names)
    layers = {layer for name in names if (layer := name.rpartition(".")[0])[:4] == "conv"}
    for depth, convs in VGG_CONVS.items():
        if {name.partition(".")[0] for _, name in _vgg_features(convs, norm=False)} == layers:
            return f"vgg{depth}{'_bn' if 'norm_conv1_1.weight' in names else ''}"
    if "conv1/7x7_s2.weight" in names:
        return "googlenet-torchvision" if "conv1/norm_7x7_s2.weight" in names else "googlenet"
    return "caffenet" if {"conv1.weight", "conv5.weight"} <= names else None


def _weights_and_biases(layers: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{source}.{kind}": f"{target}.{kind}" for source, target in layers.items() for kind in CONV
    }
