"""The skip-fusion network that a prototxt describes (CVPR section 4.2).

From the scores backwards: a crop to the image, a Deconvolution, and below it either a score layer
or an Eltwise sum of a score layer and a coarser Deconvolution. All score layers read one chain of
layers, the classifier. The crops are compared with what follows from the windows of the layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_plugin.conversion.caffe.classifier import Classifier, recognise_chain
from fcn_plugin.conversion.caffe.graph import Node, connect, settings, window
from fcn_plugin.conversion.caffe.image import Image, image_of
from fcn_plugin.conversion.caffe.text import TAKEN, read_prototxt
from fcn_plugin.errors import UserError, quoted, some
from fcn_plugin.geometry import AxisMap, transposed_convolution
from fcn_plugin.weights.networks import BACKBONES, NETS

# What may come after the scores: losses, and what leaves the order of the classes as it is.
ENDS = {
    *("Accuracy", "ArgMax", "Silence", "Sigmoid", "Softmax", "Python", "SoftmaxWithLoss"),
    *("EuclideanLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss"),
    "SigmoidCrossEntropyLoss",
}
SCORE = dict(kernel_size=1, stride=1, pad=0, dilation=1, group=1, bias_term=True)
UPSCORE = dict(dilation=1, bias_term=False)
SCALE = dict(axis=1, num_axes=1, bias_term=False)
# What to do with two tasks or streams. By the names of the layers the published ones are known.
WITHOUT = (
    "leave --prototxt out; without it the published networks of two tasks or two streams are known"
)
WITH_WEIGHTS = ("Convolution", "Deconvolution", "Scale")


@dataclass
class Level:
    """One scored level, and the way from the sum on its grid to the next finer grid.

    Attributes:
        score: its score layer.
        crop: the crop of its scores to what comes from the coarser level; None without.
        upscore: the Deconvolution of the sum on this grid.
        cropped: the crop of what ``upscore`` returns; None without.
    """

    score: Node
    crop: Node | None
    upscore: Node
    cropped: Node | None

    @property
    def scale(self) -> Node | None:
        """The Scale layer before the score layer; None without."""
        before = self.score.inputs[0]
        return before if before.kind == "Scale" else None

    @property
    def feature(self) -> Node:
        """The layer whose output is scored."""
        return (self.scale or self.score).inputs[0]


@dataclass
class CaffeNetwork:
    """What a prototxt describes.

    Attributes:
        net: the name in ``NETS``.
        classifier: of which the levels are.
        num_classes: number of scores at each pixel.
        layers: the layers with weights, in the file's order.
        names: their names in the file -> in the published networks.
        kernels: sides of the upsampling kernels, finest level first.
        bilinear: sides of the bilinear kernels that upsample by as much.
        image: what it says of the image.
    """

    path: Path
    net: str
    classifier: Classifier
    num_classes: int
    layers: list[Node]
    names: dict[str, str]
    kernels: tuple[int, ...]
    bilinear: tuple[int, ...]
    image: Image


def read_network(path: Path) -> CaffeNetwork:
    """The network that the prototxt at ``path`` describes.

    Raises:
        UserError: it is no prototxt, or the network is of another form; names the first layer that
            does not fit.
    """
    nodes = connect(read_prototxt(path))
    levels = _levels(_scores(path, nodes))
    chain = _chain(levels[-1].feature)
    classifier = recognise_chain(chain)
    net, out_indices = _net(classifier, levels)
    num_classes = _check_head(levels)
    maps = classifier.build(out_indices).maps
    _check_crops(levels, maps)
    names = dict(classifier.names)
    for level, score, upscore in zip(levels, NETS[net].scores, NETS[net].upscores, strict=True):
        names |= {level.score.name: score, level.upscore.name: upscore}
        if level.scale:
            names[level.scale.name] = score.replace("score", "scale")
    steps = [deep.within(fine) for fine, deep in zip((AxisMap(), *maps), maps, strict=False)]
    return CaffeNetwork(
        path,
        net,
        classifier,
        num_classes,
        [node for node in nodes if node.kind in WITH_WEIGHTS],
        names,
        tuple(window(level.upscore).kernel for level in levels),
        tuple(transposed_convolution(step).kernel for step in steps),
        image_of(chain[0].inputs[0]),
    )


def _scores(path: Path, nodes: Sequence[Node]) -> Node:
    """The layer that returns the scores: the last but losses and the like."""
    ends: set[Node] = set()
    for node in reversed(nodes):
        if node.kind in ENDS and node.inputs and ends.issuperset(node.users):
            ends.add(node)
    last = [n for n in nodes if not n.is_image and n not in ends and ends.issuperset(n.users)]
    if len(last) == 1:
        return last[0]
    if not last:
        raise UserError(f"{path}: describes no layers that score pixels; {TAKEN}")
    for node in last:
        if node.kind not in ("Crop", "Deconvolution"):
            raise node.fault("no layer reads it, and it returns no scores", "leave it out")
    names = some([quoted(node.name) for node in last])
    raise UserError(
        f"{path}: ends in {len(last)} layers ({names}), as a network of several tasks; {WITHOUT}"
    )


def _levels(scores: Node) -> list[Level]:
    """The scored levels, finest first."""
    upscore, cropped = _without_crop(scores)
    if cropped and not cropped.inputs[1].is_image:
        raise cropped.fault(f"crops to {quoted(cropped.inputs[1].name)}, must crop to the image")
    levels: list[Level] = []
    while True:
        if upscore.kind != "Deconvolution":
            raise upscore.fault(f"{upscore.kind} where scores are upsampled")
        below = upscore.inputs[0]
        if below.kind == "Convolution":
            return [*levels, Level(below, None, upscore, cropped)]
        if below.kind != "Eltwise":
            raise below.fault(f"{below.kind} where scores are computed or summed")
        score, crop, coarser, coarser_cropped = _summed(below)
        levels.append(Level(score, crop, upscore, cropped))
        upscore, cropped = coarser, coarser_cropped


def _without_crop(node: Node) -> tuple[Node, Node | None]:
    return (node.inputs[0], node) if node.kind == "Crop" else (node, None)


def _summed(fuse: Node) -> tuple[Node, Node | None, Node, Node | None]:
    """The score layer, its crop, the coarser Deconvolution and its crop of an Eltwise sum."""
    branches = sorted(map(_without_crop, fuse.inputs), key=lambda branch: branch[0].kind)
    (score, crop), (upscore, cropped) = branches
    kinds = score.kind, upscore.kind
    if kinds == ("Convolution", "Convolution"):
        raise fuse.fault("adds scores of two streams", WITHOUT)
    if kinds != ("Convolution", "Deconvolution"):
        raise fuse.fault(f"adds {kinds[0]} and {kinds[1]}, not scores and upsampled scores")
    fuse.check(dict(operation="SUM", coeff=[1.0, 1.0]), "in a sum of two levels' scores")
    if crop and crop.inputs[1] is not upscore:
        raise crop.fault(
            f"crops to {quoted(crop.inputs[1].name)}, must crop to {quoted(upscore.name)}"
        )
    if cropped and cropped.inputs[1] not in (score, *score.inputs):
        raise cropped.fault(
            f"crops to {quoted(cropped.inputs[1].name)}, not to {quoted(score.name)}"
        )
    return score, crop, upscore, cropped


def _chain(feature: Node) -> list[Node]:
    """The layers from the image to ``feature``."""
    chain: list[Node] = []
    node = feature
    while not node.is_image:
        if len(node.inputs) != 1:
            raise node.fault(f"reads {len(node.inputs)} layers, but the classifier is one chain")
        chain.insert(0, node)
        node = node.inputs[0]
    if not chain:
        raise feature.fault("is scored, but no layer of a classifier comes before")
    return chain


def _net(classifier: Classifier, levels: Sequence[Level]) -> tuple[str, tuple[int, ...]]:
    """The name in ``NETS``, and the indices of the levels in the classifier's, finest first."""
    for level in levels:
        if level.feature not in classifier.levels:
            raise level.score.fault(
                f"scores {quoted(level.feature.name)}, which ends no stage of {classifier.key}"
            )
    indices = tuple(classifier.levels.index(level.feature) for level in levels)
    *skips, deepest = (level.scale is not None for level in levels)
    for name, out_indices in BACKBONES[classifier.key].levels.items():
        scaled = NETS[name].scale is not None
        if indices == out_indices and not deepest and all(skip == scaled for skip in skips):
            return name, indices
    read = some([f"{'scaled ' * bool(level.scale)}{level.feature.name}" for level in levels])
    raise levels[0].score.fault(f"is one of those that score {quoted(read)}")


def _check_head(levels: Sequence[Level]) -> int:
    """The number of classes, which all layers that score and upsample must have."""
    classes = settings(levels[-1].score)["num_output"]
    if classes < 2:
        raise levels[-1].score.fault("num_output 1, but a network scores at least two classes")
    common = dict(num_output=classes)
    where = f"in a network of {classes} classes as {quoted(levels[-1].score.name)} scores them"
    for level in reversed(levels):
        level.score.check(common, where)
        level.score.check(SCORE, "in a score layer")
        level.upscore.check(common, where)
        level.upscore.check(UPSCORE, "in an upsampling layer")
        if (group := settings(level.upscore)["group"]) not in (1, classes):
            raise level.upscore.fault(f"group {group}, must be 1 or {classes}, one for each class")
        if level.scale:
            level.scale.check(SCALE, "in a factor on a level")
    return classes


def _check_crops(levels: Sequence[Level], maps: Sequence[AxisMap]) -> None:
    """Compare the offsets of all crops with the positions of the levels' pixels in the image."""
    grid = maps[-1]
    for number in reversed(range(len(levels))):
        level, finer = levels[number], maps[number - 1] if number else AxisMap()
        name = quoted(levels[number - 1].feature.name) if number else "the image"
        crop = levels[number - 1].crop if number else None
        layer = window(level.upscore)
        upsampled = grid.then(layer.map).within(finer)
        if upsampled.scale != 1:
            needed = grid.within(finer).scale
            raise level.upscore.fault(f"stride {layer.stride}, but {needed} from there to {name}")
        # Where the first upsampled pixel lies among the finer ones.
        start = upsampled.offset
        if start != int(start):
            raise level.upscore.fault(
                f"kernel_size {layer.kernel} puts its pixels between those of {name}",
                f"one of {'odd' if layer.kernel % 2 == 0 else 'even'} size fits",
            )
        if crop and level.cropped:
            raise level.cropped.fault(f"crops what {quoted(crop.name)} crops to", "leave one out")
        if crop and layer.padding:
            raise level.upscore.fault(
                f"pad {layer.padding}, but 0 if {quoted(crop.name)} crops to it"
            )
        _check_offset(crop or level.cropped, level.upscore, name, int(start if crop else -start))
        grid = finer.shifted(int(start)) if crop else finer


def _check_offset(crop: Node | None, upscore: Node, finer: str, needed: int) -> None:
    if crop is None:
        if needed:
            raise upscore.fault(
                f"is not cropped, but by the windows of the layers {needed} of its pixels lie "
                f"before the first of {finer}"
            )
        return
    stated = crop.layer.settings.crop_param
    if not crop.layer.settings.HasField("crop_param"):
        return  # In the branch in which FCNs were trained first, Caffe computed the offset.
    if stated.axis not in (2, -2) or len(stated.offset) not in (0, 1, 2):
        raise crop.fault("must crop rows and columns: axis 2, and one offset or two")
    offsets = set(stated.offset) or {0}
    if offsets != {needed}:
        shown = " and ".join(map(str, sorted(offsets)))
        raise crop.fault(f"offset {shown}, but {needed} by the windows of the layers before it")
