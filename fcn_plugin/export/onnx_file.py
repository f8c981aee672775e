"""A segmentor as an ONNX file that tells what it takes and returns."""

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fcn_plugin.errors import UserError
from fcn_plugin.export.deployed import Deployed
from fcn_plugin.export.graph import SAID, export_graph
from fcn_plugin.export.resizing import Resizing
from fcn_plugin.system.files import replacing
from fcn_plugin.version import __version__

# What torch's exporter writes without conversion, and every runtime of these years reads.
OPSET = 18
# Of an ONNX file, which is one protocol buffer; a little is left for the graph.
MOST_BYTES = 2**31 - 2**24

UNCHANGED = torch.zeros(1), torch.ones(1)
# Of the input, with and without preprocessing.
AXES = {
    True: ("batch", "height", "width", "channels"),
    False: ("batch", "channels", "height", "width"),
}


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
    """Write ``Deployed(model, ...)`` as ONNX, for any batch and size.

    The input is ``image``, the output ``labels`` or ``scores``, their axes ``batch``, ``height``
    and ``width``. The file's metadata, JSON but for plain words, tell what they mean; names,
    palette and numbers of classes are those of ``model.dataset_meta``, as the host's
    ``init_model`` sets it.

    Args:
        model: a built segmentor with its weights; is put into eval mode.
        file: takes the place of an older one if all goes well.
        argmax, preprocessing, resizing: see ``Deployed``.
        size: (H, W) of all images, for a network that does not go with any.
        dtype: of the images, if the preprocessing is inside; float32 for what is not of 8 bits.
        metadata: more of it.

    Raises:
        UserError: the network cannot be exported so, its weights are too many for one file, or a
            package of the extra 'export' is missing.
    """
    need_extra()
    weights = sum(p.nbytes for p in model.parameters())
    if weights > MOST_BYTES:
        raise UserError(
            f"{file}: the network has {weights / 1e9:.1f} GB of weights, an ONNX file holds 2 GB; "
            "use fcn_plugin.export.export_graph and torch.export.save"
        )
    deployed = Deployed(model, argmax, preprocessing, resizing)
    graph = export_graph(
        model,
        argmax=argmax,
        preprocessing=preprocessing,
        size=size,
        resizing=deployed.resizing,
        dtype=dtype,
    )
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
        said = " ".join(str(error.__cause__ or error).split())[:SAID]
        raise UserError(
            f"{file}: ONNX does not take this network, {said}; use fcn_plugin.export.export_graph"
        ) from error
    assert program is not None
    axes = AXES[preprocessing]
    shape: Any = program.model.graph.inputs[0].shape
    free = {axis: name for axis, name in zip(shape, axes, strict=True) if not isinstance(axis, int)}
    wanted = {"batch", "height", "width"} if size is None else {"batch"}
    if not wanted <= set(free.values()):
        fixed = ", ".join(sorted(wanted - set(free.values())))
        raise UserError(f"{file}: this network has one {fixed} only; give --size HEIGHT WIDTH")
    program.rename_axes(free)
    told = described(deployed, dtype) | dict(metadata or {})
    for key, value in told.items():
        text = value if isinstance(value, str) else json.dumps(value)
        program.model.metadata_props[key] = text
    with replacing(Path(file)) as part:
        program.save(part, external_data=False)


def described(deployed: Deployed, dtype: torch.dtype) -> dict[str, Any]:
    """What a file's metadata say of what goes in and comes out."""
    meta = getattr(deployed.model, "dataset_meta", None) or {}
    mean, std = (value.flatten().tolist() for value in deployed.normal or UNCHANGED)
    inside = deployed.preprocessing
    bands, kind = deployed.channels, str(dtype).removeprefix("torch.")
    values = "0-255" if dtype == torch.uint8 else "as the config's loader gives them"
    rgb = f"N x H x W x {bands}, {kind}, {'RGB, ' if bands == 3 else ''}{values}"
    order = f"{deployed.order}, " if bands == 3 else ""
    values = "0-255" if dtype == torch.uint8 else "values"
    own = f"N x {bands} x H x W, float32, {order}({values} - mean) / std"
    labels = "N x H x W, numbers of the data set, see label_names"
    scores = "N x C x H x W, float32, before softmax (of one channel: sigmoid), see classes"
    classes = list(meta.get("classes") or [])
    return {
        "made_by": f"fcn_plugin {__version__}",
        "image": rgb if inside else own,
        "labels" if deployed.argmax else "scores": labels if deployed.argmax else scores,
        "preprocessing": "inside" if inside else "by the caller",
        "resizing": deployed.resizing and deployed.resizing.settings(),
        "network_order": deployed.order,
        "mean": mean,
        "std": std,
        "classes": classes,
        "label_names": dict(zip(map(str, deployed.numbers), classes, strict=False)),
        "palette": [list(map(int, colour)) for colour in meta.get("palette") or []],
    }


def need_extra() -> None:
    """Refuse where what is needed to write and check ONNX files is not installed."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(name)
        except ImportError as error:
            raise UserError(
                f"{name} is not installed, which ONNX files need; run "
                "pip install 'fcn_plugin[export]'"
            ) from error
