"""Open a weight file of any format and identify it: publisher, network, input and classes."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.system.download import file_digests
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.weights.files import FOREIGN, format_of, read
from fcn_plugin.weights.foreign import Foreign
from fcn_plugin.weights.names import Layout, features_only, recognise
from fcn_plugin.weights.networks import CONNECTED, HEAD_LAYERS, NETS, net_name, of_task
from fcn_plugin.weights.pytorch_names import recognise_pytorch
from fcn_plugin.weights.sources import (
    KNOWN,
    NYUD,
    PASCAL_CONTEXT,
    SIFT_FLOW,
    TORCHVISION,
    Input,
    Source,
)
from fcn_plugin.weights.structure import check_names

EXPECTED = (
    "expected a caffemodel of VGG, CaffeNet, GoogLeNet or an FCN on one of them, a PyTorch or "
    "safetensors file of torchvision's VGG, AlexNet or GoogLeNet, of justincj's VGG16, of "
    "pytorch-fcn, of pytorch-semseg's or torchvision's FCNs or efficientnet_lite_pytorch, VGG of "
    "MatConvNet, Keras, Chainer or TensorFlow (.mat, .h5, .npz, .npy), or a checkpoint of "
    "fcn_plugin; download it again if it should be one"
)
# Number of classes of a published segmentor of photos -> its input, if not VOC's.
INPUT_OF_CLASSES = {60: PASCAL_CONTEXT}
NYUD_CLASSES = 40
SIFT_FLOW_CLASSES = 33, {"geo": 3}


@dataclass
class Weights:
    """The tensors of a weight file, and what it is.

    Attributes:
        tensors: Caffe's name (see ``weights.names``) -> tensor, in the file's shape.
        names: Caffe's name -> the file's name.
        dropped: the file's name of a tensor that is not used -> why.
        known: the published file with the same hash; None if there is none.
        hashed: whether its hash was compared with the published files'.
        input: the input that the network was trained on; None if unknown.
        net: its name in ``NETS``; None for a classifier or an unknown head.
        scale: fixed factors on the levels, finest first; None without.
        scale_names: the file's names of the tensors that hold ``scale``.
        scale_untold: True if the file may be fcn8s or fcn8s-atonce and does not say which.
        input_untold: True if the file may be NYUDv2's on color or on HHA and does not say which.
        dataset_meta: classes and palette, only in our own checkpoints.
        padding: the ``padding`` setting that a segmentor was trained with.
        kernels: sides of learned upsampling kernels, finest level first, where they are known to be
            other than bilinear; None: bilinear, or of the sides of bilinear ones.
    """

    path: Path
    layout: Layout
    tensors: dict[str, Tensor]
    names: dict[str, str]
    dropped: dict[str, str]
    known: Source | None = None
    hashed: bool = False
    input: Input | None = None
    net: str | None = None
    scale: tuple[float, ...] | None = None
    scale_names: list[str] = field(default_factory=list)
    scale_untold: bool = False
    input_untold: bool = False
    dataset_meta: dict[str, Any] | None = None
    padding: str | None = None
    kernels: tuple[int, ...] | None = None

    @property
    def heading(self) -> str:
        """File, publisher and network, how they are known, and any doubt, for reports."""
        title = f"{self.path}: {self.layout.title}"
        if self.known:
            return f"{title} (the published {self.known.file_name}, by its hash)"
        if not (self.hashed and self.layout.published):
            return f"{title} (by content)"
        named = next((source for source in KNOWN if source.file_name == self.path.name), None)
        if named is None:
            return f"{title} (by content; its hash is not among the published ones)"
        return (
            f"{title} (by content; its hash is not that of the published {named.file_name})\n"
            f"  WARNING: the published file has {named.digest.algorithm} {named.digest.digits}. "
            "This one was trained further, saved anew or damaged, or is another network's. Score "
            f"it, or fetch {named.url} again"
        )

    @property
    def origin(self) -> dict[str, str]:
        """What a checkpoint made of the file says of it."""
        known = dict(known_as=self.known.file_name) if self.known else {}
        return dict(file=self.path.name, layout=self.layout.title) | known

    @property
    def num_classes(self) -> int | None:
        """The number of classes it scores; None for a classifier."""
        score = self.tensors.get(f"score_fr{''.join(self.layout.streams[:1])}.weight")
        return _rows(score) if self.net and score is not None else None

    @property
    def tasks(self) -> dict[str, int]:
        """The number of classes of each further task that it scores."""
        first = "".join(self.layout.streams[:1])
        scored = (re.fullmatch(rf"score_fr_(\w+){first}\.weight", name) for name in self.tensors)
        return {match[1]: _rows(self.tensors[match[0]]) for match in scored if match}


def _rows(score: Tensor) -> int:
    """The number of classes of a score layer; 1 of a damaged one without dimensions."""
    return score.shape[:1].numel()


def open_weights(path: Path, progress: Progress = silent, identify: bool = True) -> Weights:
    """The tensors of the file at ``path``, and what it is, judged by its content.

    Args:
        identify: compare its hash with the published files'.

    Raises:
        UserError: it is missing, damaged, truncated or of an unknown layout.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check its name")
    kind = format_of(path)
    if kind is None:
        with path.open("rb") as file:
            start = file.read(8)
        fault = f"begins with {start!r}" if start else "is empty"
        raise UserError(f"{path}: {fault}; {EXPECTED}")
    meta: dict[str, Any] | None
    if kind in FOREIGN:
        weights, meta = _foreign(path, FOREIGN[kind][1](path, progress)), {}
    else:
        tensors, meta = read(path, progress)
        weights = _by_names(path, tensors)
    weights.hashed = identify
    if identify:
        digests = file_digests(path, ["sha1"] if meta is None else ["md5", "sha256"], progress)
        for source in KNOWN:
            if digests.get(source.digest.algorithm, "").startswith(source.digest.digits):
                weights.known = source
    return _described(weights, meta)


def _foreign(path: Path, content: Foreign) -> Weights:
    check_names(path, content.tensors)
    weights = _by_names(path, content.tensors)
    layout = weights.layout
    if not layout.classifier.startswith("vgg"):
        raise UserError(
            f"{path}: {content.publisher}'s {layout.classifier}; of its networks only VGG is known"
        )
    weights.layout = replace(
        layout,
        title=layout.title.replace("Caffe", content.publisher),
        input=content.input,
        notes=content.notes,
        features_only="fc6.weight" not in content.tensors,
    )
    return weights


def tell_input(weights: Weights, name: str) -> None:
    """Set the input of weights that do not tell it, by its name in ``NYUD``.

    Raises:
        UserError: they do.
    """
    if not weights.input_untold:
        raise UserError(
            f"{weights.path}: not a network of NYUDv2's 40 classes on three channels, so that its "
            f"input is known or cannot be {name}; leave --input out"
        )
    weights.input, weights.input_untold = NYUD[name], False


def recognise_tensors(
    path: Path, tensors: dict[str, Tensor], meta: dict[str, Any] | None
) -> Weights:
    """As ``open_weights``, from tensors and meta data already read; ``path`` is for messages."""
    return _described(_by_names(path, tensors), meta)


def _by_names(path: Path, stored: dict[str, Tensor]) -> Weights:
    layout = recognise(stored) or recognise_pytorch(stored)
    if layout is None:
        examples = ", ".join(sorted(stored)[:3]) or "nothing"
        raise UserError(f"{path}: holds {len(stored)} tensors ({examples}, ...); {EXPECTED}")
    if unknown := sorted(stored.keys() - layout.names.keys() - layout.dropped.keys()):
        raise UserError(
            f"{path}: looks like {layout.title}, but has {len(unknown)} tensors that do not belong "
            f"to it, e.g. {unknown[0]}; {EXPECTED}"
        )
    names = {target: name for name, target in layout.names.items() if name in stored}
    return Weights(
        path,
        layout,
        tensors={target: stored[name] for target, name in names.items()},
        names=names,
        dropped={name: why for name, why in layout.dropped.items() if name in stored},
    )


def _described(weights: Weights, meta: dict[str, Any] | None) -> Weights:
    """Add the network, the factors, the input and the classes."""
    _drop_invalid_classifier(weights)
    _take_scale(weights, meta)
    meta = meta or {}
    layout, stored = weights.layout, meta.get("dataset_meta")
    if layout.segmentor:
        weights.net = _net(weights, meta)
        weights.padding = "reference" if layout.published else meta.get("padding")
    weights.dataset_meta = stored if isinstance(stored, dict) and "classes" in stored else None
    if not layout.published:
        weights.input = Input.stored(meta)
    elif weights.known is not None:
        weights.input = weights.known.input
    else:
        told = not layout.segmentor or layout.input is None
        weights.input = layout.input if told else _input_of_segmentor(weights)
    return weights


def _input_of_segmentor(weights: Weights) -> Input | None:
    """What a published segmentor was trained on, by its classes, tasks, streams and bands."""
    layout, first = weights.layout, weights.tensors.get("conv1_1.weight")
    if layout.several_tasks:
        found = weights.num_classes, weights.tasks
        return SIFT_FLOW if found == SIFT_FLOW_CLASSES else None
    bands = first.shape[1] if first is not None and first.dim() == 4 else 3
    of_nyud = weights.num_classes == NYUD_CLASSES
    if layout.streams or bands != 3:
        name = "nyud-color-hha" if layout.streams else "nyud-color-d"
        return NYUD[name] if of_nyud and (layout.streams or bands == 4) else None
    if of_nyud:
        # Color and HHA have the same layers; only the published files' names differ.
        weights.input_untold = True
        kinds = [kind for kind in ("color", "hha") if kind in weights.path.stem.lower()]
        return NYUD[f"nyud-{kinds[0]}"] if len(kinds) == 1 else None
    return INPUT_OF_CLASSES.get(weights.num_classes or 0, layout.input)


def _drop_invalid_classifier(weights: Weights) -> None:
    """Drop fc6 and fc7 if NaN, as in torchvision's copy of amdegroot's VGG16."""
    fc = [name for name in weights.tensors if name.startswith(CONNECTED)]
    if weights.layout.input is not TORCHVISION or not any(
        weights.tensors[name].isnan().any() for name in fc
    ):
        return
    for name in fc:
        del weights.tensors[name]
        weights.dropped[weights.names.pop(name)] = "NaN: the file has features only"
    weights.layout = features_only(weights.layout)


def _take_scale(weights: Weights, meta: dict[str, Any] | None) -> None:
    """Move the levels' fixed factors from ``tensors`` to ``scale``."""
    layers = [
        name
        for name in ("scale_pool3.weight", "scale_pool4.weight", "level_scale")
        if name in weights.tensors
    ]
    for name in [name for name in weights.tensors if name.startswith("level_scale_")]:
        if not torch.equal(weights.tensors[name], weights.tensors["level_scale"]):
            raise UserError(
                f"{weights.path}: {weights.names[name]} differs from the main head's; only heads "
                "with the same factors can be carried over"
            )
        weights.scale_names.append(weights.names[name])
        del weights.tensors[name]
    stored = [weights.tensors.pop(name) for name in layers]
    weights.scale_names += [weights.names[name] for name in layers]
    if "level_scale" in layers:
        weights.scale = tuple(stored[-1].tolist())
    elif len(layers) == 2:
        factors = (_one_factor(weights, *layer) for layer in zip(layers, stored, strict=True))
        weights.scale = (*factors, 1.0)
    elif layers:
        raise UserError(f"{weights.path}: has only one of the two scale layers; download it again")
    elif meta is not None and weights.layout.published and _may_be_at_once(weights):
        # pytorch-fcn's at-once network has the factors in its code, not in the file. Hashes tell
        # its published files, the class name its checkpoints; otherwise the file's name decides.
        arch = str(meta.get("arch", ""))
        label = (arch or weights.path.stem).lower().replace("-", "").replace("_", "")
        at_once = weights.known.at_once if weights.known else "atonce" in label
        weights.scale_untold = not (weights.known or at_once or arch)
        weights.scale = NETS["fcn8s-atonce"].scale if at_once else None


def _may_be_at_once(weights: Weights) -> bool:
    return weights.layout.may_be_at_once and "score_pool3.weight" in weights.tensors


def _one_factor(weights: Weights, name: str, tensor: Tensor) -> float:
    """The factor of a scale layer; Caffe stores it once per channel."""
    if tensor.numel() == 0 or (tensor != tensor.flatten()[0]).any():
        raise UserError(
            f"{weights.path}: {name} is {tuple(tensor.shape)} numbers that differ, expected one; "
            "only fixed scales can be carried over"
        )
    return float(tensor.flatten()[0])


def _net(weights: Weights, meta: dict[str, Any]) -> str | None:
    if not weights.layout.published and "net" in meta:
        return meta["net"] if meta["net"] in NETS else None
    scores = {name.rpartition(".")[0] for name in weights.tensors if name.startswith("score")}
    streams = weights.layout.streams or ("",)
    of_tasks = (of_task(layer, task) for task in weights.tasks for layer in HEAD_LAYERS)
    scores -= {f"{layer}{stream}" for layer in of_tasks for stream in streams}
    net = net_name(len(scores) // len(streams), at_once=weights.scale is not None)
    expected = {f"{score}{s}" for score in NETS[net].scores for s in streams} if net else set()
    return net if net and scores == expected else None
