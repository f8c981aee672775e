"""Write a segmentor as an ONNX file with metadata that describe its input and output."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fcn_plugin.errors import UserError
from fcn_plugin.export.deployed import Deployed
from fcn_plugin.export.graph import graph_of, shortened
from fcn_plugin.export.resizing import Resizing
from fcn_plugin.prediction.cost import Cost
from fcn_plugin.prediction.memory import TensorBytes
from fcn_plugin.system.files import replacing
from fcn_plugin.system.newer_torch import need_newer_torch
from fcn_plugin.version import __version__

# torch's exporter writes this version without conversion, and current runtimes read it.
OPSET = 18
# An ONNX file is one protocol buffer of at most 2 GiB; 16 MiB are reserved for the graph.
MOST_BYTES = 2**31 - 2**24
MEASURED_BYTES = 2**30  # most to take for measuring memory


def export_onnx(
    model: nn.Module,
    file: str | Path,
    *,
    argmax: bool = True,
    preprocessing: bool = True,
    size: tuple[int, int] | None = None,
    resizing: Resizing | None = None,
    dtype: torch.dtype = torch.uint8,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write ``Deployed(model, ...)`` as an ONNX file for any batch and image size.

    The input is called ``image``, the output ``labels`` or ``scores``; their dynamic axes are
    ``batch``, ``height`` and ``width``. The metadata, texts and JSON, describe both; class names,
    palette and numbers come from ``model.dataset_meta``, as set by mmseg's ``init_model``.

    Args:
        model: a built segmentor with its weights; it is put into eval mode.
        file: the ONNX file; an older one is replaced only on success.
        argmax, preprocessing, resizing: see ``Deployed``.
        size: fixed (H, W) of all images, for a network that cannot take every size.
        dtype: dtype of the images, if preprocessing is included; float32 unless they have 8 bits.
        metadata: further entries of the metadata.

    Raises:
        UserError: the network cannot be exported this way, its weights are too large for one
            file, or a package of the extra 'export' is missing.
    """
    need_extra()
    weights = sum(p.nbytes for p in model.parameters())
    if weights > MOST_BYTES:
        raise UserError(
            f"{file}: the network has {weights / 1e9:.1f} GB of weights, an ONNX file holds 2 GB; "
            "use fcn_plugin.export.export_graph and torch.export.save"
        )
    deployed = Deployed(model, argmax, preprocessing, resizing)
    graph = graph_of(deployed, size, dtype)
    try:
        program = torch.onnx.export(
            graph,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["labels" if argmax else "scores"],
        )
    except torch.onnx.OnnxExporterError as error:
        reason = shortened(error.__cause__ or error)
        raise UserError(
            f"{file}: ONNX does not take this network, {reason}; use fcn_plugin.export.export_graph"
        ) from error
    assert program is not None
    axes = ["batch", "height", "width"]
    axes.insert(3 if preprocessing else 1, "channels")
    shape: Any = program.model.graph.inputs[0].shape
    free = {axis: name for axis, name in zip(shape, axes, strict=True) if not isinstance(axis, int)}
    wanted = {"batch", "height", "width"} if size is None else {"batch"}
    if fixed := ", ".join(sorted(wanted - set(free.values()))):
        raise UserError(f"{file}: this network has one {fixed} only; give --size HEIGHT WIDTH")
    program.rename_axes(free)
    entries = described(deployed, dtype) | {"memory": memory_of(deployed, size)._asdict()}
    for key, value in (entries | dict(metadata or {})).items():
        text = value if isinstance(value, str) else json.dumps(value)
        program.model.metadata_props[key] = text
    with replacing(Path(file)) as part:
        program.save(part, external_data=False)


def described(deployed: Deployed, dtype: torch.dtype) -> dict[str, Any]:
    """The metadata of a file: input, output, preprocessing and classes."""
    meta = getattr(deployed.model, "dataset_meta", None) or {}
    normal = deployed.normal or (torch.zeros(1), torch.ones(1))
    mean, std = (value.flatten().tolist() for value in normal)
    inside, bands, kind = deployed.preprocessing, deployed.channels, str(dtype)[len("torch.") :]
    in_bytes, order = dtype == torch.uint8, deployed.order
    order = f"{'RGB' if inside else order}, " if deployed.takes_rgb else ""
    if inside:
        values = "0-255" if in_bytes else "as the config's loader gives them"
        image = f"N x H x W x {bands}, {kind}, {order}{values}"
    else:
        values = "0-255" if in_bytes else "values"
        image = f"N x {bands} x H x W, float32, {order}({values} - mean) / std"
    labels = "N x H x W, numbers of the data set, see label_names"
    scores = "N x C x H x W, float32, before softmax (of one channel: sigmoid), see classes"
    classes = list(meta.get("classes") or [])
    return {
        "made_by": f"fcn_plugin {__version__}",
        "image": image,
        "labels" if deployed.argmax else "scores": labels if deployed.argmax else scores,
        "preprocessing": "inside" if inside else "by the caller",
        "resizing": deployed.resizing and deployed.resizing.settings(),
        "network_order": deployed.order,
        "mean": mean,
        "std": std,
        "classes": classes,
        "label_names": dict(zip(map(str, deployed.numbers), classes, strict=False)),
        "palette": [list(map(int, colour)) for colour in meta.get("palette") or []],
        "reduce_zero_label": deployed.numbering.reduce_zero_label,
        "label_map": deployed.numbering.label_map,
        "threshold": getattr(deployed.head, "threshold", None),
    }


@torch.no_grad()
def memory_of(deployed: Deployed, size: tuple[int, int] | None) -> Cost:
    """The memory of a prediction by the size of the image, as PyTorch's tensors take it."""
    parameter = next(deployed.parameters())

    def run(rows: int, cols: int) -> TensorBytes:
        shape = (1, rows, cols, deployed.channels)
        image = torch.zeros(shape, dtype=torch.uint8, device=parameter.device)
        with TensorBytes() as tensors:
            deployed.labels(deployed.enlarged(deployed.scores(deployed.prepared(image)), image))
        return tensors

    if size:
        return Cost(border=0, scale=run(*size).peak, power=0, countable=size[0] * size[1])
    return Cost.measured(lambda side: run(side, side), MEASURED_BYTES)


def need_extra() -> None:
    """Raise ``UserError`` if a package that writes or checks ONNX files is absent or too old."""
    need_newer_torch("export to ONNX")
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"{name} is not installed, which ONNX files need; run "
                "pip install 'fcn-plugin[export]'"
            ) from error
