"""A segmentor as one graph of ``torch.export``, for batches and images of any size."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fcn_plugin.errors import UserError
from fcn_plugin.export.deployed import Deployed
from fcn_plugin.export.pictures import examples
from fcn_plugin.export.resizing import Resizing

# Of the example that the graph is made with: more than one image, no map of a single pixel, and one
# pixel more than a multiple of every stride. A branch taken only where sizes come out even, or are
# 1, would be taken for all.
BATCH, SIZE = 2, (257, 321)
# Of the images that the graph is then tried with, and the pixels that have to be as they should.
OTHER_SIZE, ALIKE = (97, 161), 0.999
# The setting that leaves to run time what has to hold of the sizes and cannot be proven for all;
# without it the graph would be refused.
UNPROVEN = "prefer_deferred_runtime_asserts_over_guards"
SAID = 200  # characters of torch's words
REMEDY = "export it for one size: --size HEIGHT WIDTH"


class Drawn(Exception):
    """The network gives another answer each time."""


def export_graph(
    model: nn.Module,
    *,
    argmax: bool = True,
    preprocessing: bool = True,
    size: tuple[int, int] | None = None,
    resizing: Resizing | None = None,
    dtype: torch.dtype = torch.uint8,
) -> ExportedProgram:
    """The graph of ``Deployed(model, ...)``; ``model`` is put into eval mode.

    Args:
        argmax, preprocessing, resizing: see ``Deployed``.
        size: (H, W) of all images, for a network that does not go with any.
        dtype: of the images, if the preprocessing is inside.

    Raises:
        UserError: the network cannot be exported so.
    """
    if UNPROVEN not in inspect.signature(torch.export.export).parameters:
        raise UserError(f"torch {torch.__version__} is too old to export; pip install -U torch")
    deployed = Deployed(model, argmax, preprocessing, resizing).eval()
    kind = f"{type(model.backbone).__name__} + {type(deployed.head).__name__}"
    faults: list[Exception] = []
    for strict in (False, True):
        try:
            return _decomposed(_traced(deployed, size, strict, dtype))
        except Drawn as error:
            remedy = "switch that off in the config"
            raise UserError(f"{kind}: cannot be exported, {error}; {remedy}") from None
        except Exception as error:  # whatever a foreign network may do that no graph has
            faults.append(error)
    # What the first attempt says is closer to the network's code.
    said = " ".join(str(faults[0]).split())[:SAID] or type(faults[0]).__name__
    remedy = REMEDY if size is None else "look at it with torch.export.draft_export"
    raise UserError(f"{kind}: cannot be exported, {said}; {remedy}") from faults[0]


@torch.no_grad()
def _traced(
    deployed: Deployed, size: tuple[int, int] | None, strict: bool, dtype: torch.dtype
) -> ExportedProgram:
    """By running the network, or (strict) by torch's reading of its code, which takes longer.

    Only the second follows ``int`` of a size, which the host calls in ``Upsample`` and with
    align_corners. The first then may take the example's for all without saying so.
    """
    images = _images(deployed, 1, size or OTHER_SIZE, dtype)
    if not _alike(deployed, deployed, images):
        raise Drawn("it draws random numbers")
    free: dict[int, Any] = {0: Dim.DYNAMIC(min=1)}
    if size is None:
        axes = (1, 2) if deployed.preprocessing else (2, 3)
        free |= dict.fromkeys(axes, Dim.DYNAMIC(min=1))
    unproven: dict[str, Any] = {UNPROVEN: True}
    graph = torch.export.export(
        deployed,
        (_images(deployed, BATCH, size or SIZE, dtype),),
        dynamic_shapes=(free,),
        strict=strict,
        **unproven,
    )
    if not _alike(graph.module(), deployed, images):
        raise RuntimeError(f"what depends on the size is fixed in the graph of {size or SIZE}")
    return graph


@torch.no_grad()
def _alike(found_by: nn.Module, expected_by: nn.Module, images: Tensor) -> bool:
    found, expected = (run(images).double() for run in (found_by, expected_by))
    largest = float(expected.nan_to_num(0, 0, 0).abs().max())
    close = torch.isclose(found, expected, rtol=0, atol=1e-3 * largest, equal_nan=True)
    return bool(close.double().mean() >= ALIKE)


def _images(deployed: Deployed, number: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    images = examples(deployed, number, size, dtype).to(next(deployed.parameters()).device)
    return images if deployed.preprocessing else deployed.prepared(images)


def _decomposed(graph: ExportedProgram) -> ExportedProgram:
    """Without what ONNX has not; to try costs a second tracing."""
    lacks = any(node.target in DECOMPOSITIONS for node in graph.graph.nodes)
    return graph.run_decompositions(DECOMPOSITIONS) if lacks else graph


def average_pooled(x: Tensor, size: list[int]) -> Tensor:
    """``functional.adaptive_avg_pool2d`` of N x C x h x w, as two products with matrices.

    ONNX has no such operation; and its averages over windows cannot follow a map's size.
    """
    down, across = (
        _averages(length, pooled, x) for length, pooled in zip(x.shape[-2:], size, strict=True)
    )
    return torch.matmul(torch.matmul(down, x), across.t())


def _averages(length: int, pooled: int, like: Tensor) -> Tensor:
    """pooled x length: the weights of ``length`` pixels in each average."""
    at = torch.arange(pooled, device=like.device)[:, None]
    first, beyond = at * length // pooled, ((at + 1) * length + pooled - 1) // pooled
    pixels = torch.arange(length, device=like.device)
    within = (pixels >= first) & (pixels < beyond)
    return within.to(like.dtype) / (beyond - first).to(like.dtype)


DECOMPOSITIONS = {torch.ops.aten.adaptive_avg_pool2d.default: average_pooled}
