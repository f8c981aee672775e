"""Open a file of published weights, whatever its kind, and say what it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fcn_plugin.errors import UserError, printable
from fcn_plugin.system.download import Digest, file_digests
from fcn_plugin.weights.caffemodel import looks_like_caffemodel, read_caffemodel
from fcn_plugin.weights.fill import read_torch_file, state_dict
from fcn_plugin.weights.names import Layout, features_only, recognise
from fcn_plugin.weights.networks import NETS, net_name
from fcn_plugin.weights.safetensors_files import START_BYTES, looks_like_safetensors
from fcn_plugin.weights.sources import KNOWN, PASCAL_CONTEXT, TORCHVISION, Input, Source

# (what is being done, how much of it is done, how much there is)
Progress = Callable[[str, int, int], None]

BLOBS = ("weight", "bias")  # of a Caffe layer, in their order
TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # of its zip archives, and of the pickles before them
EXPECTED = (
    "expected a caffemodel of VGG, CaffeNet, GoogLeNet or an FCN on one of them, a PyTorch or "
    "safetensors file of torchvision's VGG, AlexNet or GoogLeNet, of justincj's VGG16 or of "
    "pytorch-fcn, or a checkpoint of fcn_plugin; download it again if it should be one"
)
# By the number of classes of a Caffe segmentor, where it is not VOC's. Of NYUDv2's 40 classes there
# are networks for several inputs, which look alike.
INPUT_OF_CLASSES = {40: None, 60: PASCAL_CONTEXT}


@dataclass
class Weights:
    """The tensors of a published file.

    Attributes:
        tensors: by Caffe's names (see ``layouts``), as the file has them.
        names: what each is called in the file.
        dropped: the file's other tensors, each with the reason.
        known: the published file that this is, by its hash.
        input: what the network was trained to see, if the file tells.
        net: which of ``NETS`` it is; None for a classifier, or for a head that is none of them.
        scale: fixed factors on the levels, finest first,
        scale_names: and the tensors of the file that they come from.
        scale_untold: whether they may be there without the file telling.
        dataset_meta: of our own checkpoints: classes and palette.
        padding: that a segmentor was trained with.
    """

    path: Path
    layout: Layout
    tensors: dict[str, Tensor]
    names: dict[str, str]
    dropped: dict[str, str]
    known: Source | None = None
    input: Input | None = None
    net: str | None = None
    scale: tuple[float, ...] | None = None
    scale_names: list[str] = field(default_factory=list)
    scale_untold: bool = False
    dataset_meta: dict[str, Any] | None = None
    padding: str | None = None

    @property
    def num_classes(self) -> int | None:
        """How many classes it scores; None for a classifier."""
        score = self.tensors.get("score_fr.weight")
        return score.shape[0] if self.net and score is not None else None


def open_weights(
    path: Path, progress: Progress = lambda step, done, total: None, identify: bool = True
) -> Weights:
    """Read the file at ``path`` and recognise it by its content.

    Args:
        identify: look for its hash among the published ones.

    Raises:
        UserError: it is missing, damaged, truncated or none of the known layouts.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; check its name")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        raise UserError(f"{path}: is empty; download it again")
    if start.startswith(TORCH_MAGIC) or looks_like_safetensors(start):
        content = read_torch_file(path)
        tensors, hashes = state_dict(content, path), {"md5", "sha256"}
    elif looks_like_caffemodel(path):
        content, hashes = None, {"sha1"}
        tensors = _caffe_tensors(path, lambda done, total: progress("reading", done, total))
    else:
        raise UserError(f"{path}: begins with {start[:8]!r}; {EXPECTED}")
    weights = recognise_tensors(path, tensors)
    if identify:
        digests = file_digests(path, hashes, progress)
        weights.known = next((s for s in KNOWN if _matches(s.digest, digests)), None)
    describe(weights, content)
    return weights


def recognise_tensors(path: Path, raw: dict[str, Tensor]) -> Weights:
    """Whose tensors these are, by their names; ``path`` is for messages."""
    layout = recognise(raw)
    if layout is None:
        held = ", ".join(sorted(raw)[:3]) or "nothing"
        raise UserError(f"{path}: holds {len(raw)} tensors ({held}, ...); {EXPECTED}")
    if unknown := sorted(set(raw) - set(layout.names)):
        raise UserError(
            f"{path}: looks like {layout.title}, but has {len(unknown)} tensors that it does not, "
            f"e.g. {unknown[0]}; {EXPECTED}"
        )
    names = {target: name for name, target in layout.names.items() if target and name in raw}
    return Weights(
        path,
        layout,
        tensors={target: raw[name] for target, name in names.items()},
        names=names,
        dropped={name: why for name, why in layout.reasons.items() if name in raw},
    )


def describe(weights: Weights, content: dict[str, Any] | None) -> None:
    """Find out the network, its factors, its input and its classes.

    ``content`` is what a PyTorch file holds beside the tensors, None of a caffemodel.
    """
    meta = (content or {}).get("meta")
    meta = meta if isinstance(meta, dict) else {}
    _drop_invalid_classifier(weights)
    if weights.layout.segmentor:
        _find_scale(weights, content)
        weights.net = _find_net(weights, meta)
    stored = meta.get("dataset_meta")
    weights.dataset_meta = stored if isinstance(stored, dict) and "classes" in stored else None
    weights.input = _find_input(weights, meta)
    if weights.layout.segmentor:
        weights.padding = "reference" if weights.layout.published else meta.get("padding")


def _caffe_tensors(path: Path, progress: Callable[[int, int], None]) -> dict[str, Tensor]:
    tensors = {}
    for layer in read_caffemodel(path, progress):
        if len(layer.blobs) > len(BLOBS):
            raise UserError(
                f"{path}: layer {layer.name} ({layer.type}) has {len(layer.blobs)} blobs, expected "
                "a weight and a bias; only the published FCNs and their classifiers can be read"
            )
        for kind, blob in zip(BLOBS, layer.blobs, strict=False):
            name = f"{layer.name}.{kind}"
            if name in tensors:
                raise UserError(f"{path}: has two layers {layer.name}; download it again")
            if printable(name) != name:  # all names are told of
                raise UserError(f"{path}: has control characters in the name {name}; {EXPECTED}")
            tensors[name] = blob
    return tensors


def _matches(digest: Digest, found: dict[str, str]) -> bool:
    return found.get(digest.algorithm, "").startswith(digest.digits)


def _drop_invalid_classifier(weights: Weights) -> None:
    """amdegroot's VGG16 in torchvision has NaN where its classifier was (reference section 7)."""
    fc = [name for name in weights.tensors if name.startswith(("fc6.", "fc7."))]
    if weights.layout.input is not TORCHVISION or not any(
        weights.tensors[name].isnan().any() for name in fc
    ):
        return
    for name in fc:
        del weights.tensors[name]
        weights.dropped[weights.names.pop(name)] = "not a number: the file has features only"
    weights.layout = features_only(weights.layout)


def _find_scale(weights: Weights, content: dict[str, Any] | None) -> None:
    """Take the scale layers out of the tensors."""
    factors = [_take_scale(weights, f"{layer}.weight") for layer in ("scale_pool3", "scale_pool4")]
    found = [factor for factor in factors if factor is not None]
    if "level_scale" in weights.tensors:
        weights.scale = tuple(weights.tensors.pop("level_scale").tolist())
        weights.scale_names.append(weights.names["level_scale"])
    elif len(found) == 2:
        weights.scale = (*found, 1.0)
    elif found:
        raise UserError(f"{weights.path}: has only one of the two scale layers; download it again")
    elif content is not None and weights.layout.published:
        _infer_scale(weights, str(content.get("arch", "")))


def _take_scale(weights: Weights, name: str) -> float | None:
    """The factor of a scale layer, which Caffe stores once for every channel."""
    tensor = weights.tensors.pop(name, None)
    if tensor is None:
        return None
    if tensor.numel() == 0 or (tensor != tensor.flatten()[0]).any():
        raise UserError(
            f"{weights.path}: {name} is {tuple(tensor.shape)} numbers that differ, expected one; "
            "only fixed scales can be carried over"
        )
    weights.scale_names.append(weights.names[name])
    return float(tensor.flatten()[0])


def _infer_scale(weights: Weights, arch: str) -> None:
    """pytorch-fcn's at-once network has no scale layers: they are in its code.

    Its checkpoints name the class, its published files are known by their hash; for others their
    name has to do.
    """
    if "score_pool3.weight" not in weights.tensors:
        return
    told = arch or weights.path.stem
    if weights.known is not None:
        at_once = weights.known.at_once
    else:
        at_once = "atonce" in told.lower().replace("-", "").replace("_", "")
        weights.scale_untold = not (at_once or arch)
    weights.scale = NETS["fcn8s-atonce"].scale if at_once else None


def _find_net(weights: Weights, meta: dict[str, Any]) -> str | None:
    if not weights.layout.published and "net" in meta:
        return meta["net"] if meta["net"] in NETS else None
    scores = {name.removesuffix(".weight").removesuffix(".bias") for name in weights.tensors}
    scores = {name for name in scores if name.startswith("score")}
    name = net_name(len(scores), at_once=weights.scale is not None)
    return name if name and scores == set(NETS[name].scores) else None


def _find_input(weights: Weights, meta: dict[str, Any]) -> Input | None:
    layout = weights.layout
    if not layout.published:
        return Input.stored(meta)
    if weights.known is not None:
        return weights.known.input
    if layout.segmentor:
        return INPUT_OF_CLASSES.get(weights.num_classes or 0, layout.input)
    return layout.input
