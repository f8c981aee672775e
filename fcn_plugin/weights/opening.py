"""Open a file of published weights, whatever its kind, and say what it is."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fcn_plugin.download import Digest, file_digests
from fcn_plugin.errors import UserError
from fcn_plugin.weights.caffemodel import looks_like_caffemodel, read_caffemodel
from fcn_plugin.weights.layouts import Layout, features_only, recognise
from fcn_plugin.weights.loading import read_torch_file, state_dict
from fcn_plugin.weights.nets import NETS, net_name
from fcn_plugin.weights.sources import KNOWN, NYUD, PASCAL_CONTEXT, TORCHVISION, Input, Source

# (what is being done, how much of it is done, how much there is)
Progress = Callable[[str, int, int], None]

BLOBS = ("weight", "bias")  # of a Caffe layer, in their order
TORCH_MAGIC = (b"PK\x03\x04", b"\x80")  # of its zip archives, and of the pickles before them
EXPECTED = (
    "expected a caffemodel of VGG, CaffeNet, GoogLeNet or an FCN on one of them, a PyTorch file "
    "of torchvision's VGG, AlexNet or GoogLeNet, of justincj's VGG16 or of pytorch-fcn, or a "
    "checkpoint of fcn_plugin; download it again if it should be one"
)
# By the number of classes of a Caffe segmentor, where it is not VOC's.
INPUT_OF_CLASSES = {40: NYUD, 60: PASCAL_CONTEXT}


@dataclass
class Weights:
    """The tensors of a published file.

    Attributes:
        tensors: by Caffe's names (see ``layouts``), as the file has them.
        names: what each is called in the file.
        dropped: the file's other tensors, each with the reason.
        known: the published file that this is, by its hash.
        input: what the network was trained to see, if the file tells.
        net: which of ``NETS`` it is; None for a classifier.
        scale: fixed factors on the levels, finest first,
        scale_names: and the tensors of the file that they come from.
        dataset_meta: of our own checkpoints: classes and palette.
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
    dataset_meta: dict[str, Any] | None = None

    @property
    def num_classes(self) -> int | None:
        """The classes that it scores; None for a classifier."""
        return self.tensors["score_fr.weight"].shape[0] if self.net else None


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
        start = file.read(8)
    content: dict[str, Any] = {}
    if start.startswith(TORCH_MAGIC):
        content = read_torch_file(path)
        raw = state_dict(content, path)
        hashes = {"md5", "sha256"}
    elif looks_like_caffemodel(path):
        raw = _caffe_tensors(path, lambda done, total: progress("reading", done, total))
        hashes = {"sha1"}
    else:
        raise UserError(f"{path}: begins with {start!r}; {EXPECTED}")

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
    weights = Weights(
        path,
        layout,
        tensors={target: raw[name] for target, name in names.items()},
        names=names,
        dropped={name: why for name, why in layout.reasons.items() if name in raw},
    )
    if identify:
        weights.known = _known(path, hashes, progress)
    _drop_invalid_classifier(weights)
    _find_net(weights, from_torch=bool(content), arch=str(content.get("arch", "")))
    meta = content.get("meta")
    _find_input(weights, meta if isinstance(meta, dict) else {})
    return weights


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
            tensors[name] = blob
    return tensors


def _known(path: Path, algorithms: Collection[str], progress: Progress) -> Source | None:
    size = path.stat().st_size
    digests = file_digests(path, algorithms, lambda done: progress("hashing", done, size))
    return next((source for source in KNOWN if _matches(source.digest, digests)), None)


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


def _find_net(weights: Weights, from_torch: bool, arch: str) -> None:
    """Set ``net`` and ``scale``, taking the scale layers out of the tensors."""
    if not weights.layout.segmentor:
        return
    factors = [_take_scale(weights, f"{layer}.weight") for layer in ("scale_pool3", "scale_pool4")]
    found = [factor for factor in factors if factor is not None]
    if "level_scale" in weights.tensors:
        weights.scale = tuple(weights.tensors.pop("level_scale").tolist())
        weights.scale_names.append(weights.names["level_scale"])
    elif len(found) == 2:
        weights.scale = (*found, 1.0)
    elif found:
        raise UserError(f"{weights.path}: has only one of the two scale layers; download it again")
    elif from_torch and weights.layout.published and _at_once(weights, arch):
        weights.scale = NETS["fcn8s-atonce"].scale
    levels = sum(name.startswith("score") and name.endswith(".weight") for name in weights.tensors)
    if not 1 <= levels <= 3 or "score_fr.weight" not in weights.tensors:
        raise UserError(f"{weights.path}: has {levels} score layers, but no score_fr; {EXPECTED}")
    weights.net = net_name(levels, at_once=weights.scale is not None)


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


def _at_once(weights: Weights, arch: str) -> bool:
    """pytorch-fcn's at-once network has no scale layers: they are in its code.

    Its checkpoints name the class, its published files are known by their hash; for others their
    name has to do.
    """
    if "score_pool3.weight" not in weights.tensors:
        return False
    if weights.known is not None:
        return weights.known.at_once
    told = (arch or weights.path.stem).lower().replace("-", "").replace("_", "")
    return "atonce" in told


def _find_input(weights: Weights, meta: dict[str, Any]) -> None:
    weights.dataset_meta = meta.get("dataset_meta")
    if stored := meta.get("input"):
        weights.input = Input(stored["order"], tuple(stored["mean"]), tuple(stored["std"]))
    elif weights.known is not None:
        weights.input = weights.known.input
    elif weights.layout.segmentor and weights.layout.input is not None:
        weights.input = INPUT_OF_CLASSES.get(weights.num_classes or 0, weights.layout.input)
    else:
        weights.input = weights.layout.input
