"""Check that an ONNX file gives the same results as the segmentor, batch by batch."""

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fcn_plugin.errors import UserError
from fcn_plugin.export.deployed import Deployed
from fcn_plugin.export.graph import examples
from fcn_plugin.export.onnx_file import need_extra
from fcn_plugin.export.resizing import Resizing

# Smaller and larger than the traced example; odd, and not all multiples of a stride.
SIZES = ((97, 161), (256, 320), (301, 423))


class Check(NamedTuple):
    """The result for one batch of images.

    Attributes:
        size: (H, W) of the images.
        identical: fraction of the pixels with equal labels.
        difference: largest difference of scores, relative to the largest score. For a file that
            returns labels: how far, at most, the score of its label is below the highest score.
    """

    size: tuple[int, int]
    identical: float
    difference: float


def check_onnx(
    model: nn.Module,
    file: str | Path,
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
    dtype: torch.dtype = torch.uint8,
) -> list[Check]:
    """The results of ``checks`` on one or two synthetic images of each size."""
    deployed = Deployed(model)
    batches = [
        examples(deployed, 1 + number % 2, size, dtype).cpu() for number, size in enumerate(sizes)
    ]
    return list(checks(model, file, batches))


def checks(model: nn.Module, file: str | Path, batches: Sequence[Tensor]) -> Iterator[Check]:
    """Compare the ONNX file, run by onnxruntime on the CPU, with its model; one Check per batch.

    Args:
        model: the model that was exported; it is put into eval mode.
        file: a file written by ``export_onnx``.
        batches: images N x H x W x C of the dtype the file takes; RGB if there are 3 channels.

    Raises:
        UserError: the file is not valid ONNX, or onnxruntime cannot run it.
    """
    need_extra()
    onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    try:
        onnx.checker.check_model(str(file), full_check=True)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    except Exception as error:  # neither package has a common error class
        raise UserError(f"{file}: {str(error).splitlines()[0]}; export it again") from error
    argmax = session.get_outputs()[0].name == "labels"
    metadata = session.get_modelmeta().custom_metadata_map
    preprocessing = metadata["preprocessing"] == "inside"
    settings = json.loads(metadata.get("resizing", "null"))
    resizing = Resizing(**settings) if settings else None
    deployed = Deployed(model, argmax, preprocessing, resizing).eval()
    device = next(model.parameters()).device
    for batch in batches:
        image, scores = _scores(deployed, batch.to(device))
        inputs = batch if preprocessing else image
        output = torch.from_numpy(session.run(None, {"image": inputs.cpu().numpy()})[0])
        yield _compared(deployed, scores.cpu(), output)


@torch.no_grad()
def _scores(deployed: Deployed, batch: Tensor) -> tuple[Tensor, Tensor]:
    """The network's input, and PyTorch's scores."""
    image = deployed.prepared(batch)
    try:
        return image, deployed.enlarged(deployed.scores(image), batch)
    except RuntimeError as error:
        rows, cols = batch.shape[1:3]
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the network itself does not take {rows} x {cols} pixels ({reason}); export it for "
            "one size: --size HEIGHT WIDTH"
        ) from error


def _compared(deployed: Deployed, scores: Tensor, output: Tensor) -> Check:
    """Compare PyTorch's scores with the file's output, which is labels or scores."""
    labels = deployed.labels(scores)
    if deployed.argmax:
        # A number that is not a class counts as class 0 here, and as a wrong label below.
        indices = torch.zeros_like(output, dtype=torch.int64)
        for index, number in enumerate(deployed.numbers):
            indices[output == number] = index
        of_output = scores.gather(1, indices[:, None]) if scores.shape[1] > 1 else scores
        apart = scores.amax(1, keepdim=True) - of_output
    else:
        apart, output = (scores - output).abs(), deployed.labels(output)
    rows, cols = labels.shape[-2:]
    return Check(
        (rows, cols),
        float((labels == output).double().mean()),
        float(apart.max() / scores.abs().max().clamp(min=torch.finfo(scores.dtype).tiny)),
    )
