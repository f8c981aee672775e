"""Export a segmentor as a ``torch.export`` graph for any batch and image size."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional

from fcn_plugin.errors import UserError
from fcn_plugin.export.deployed import Deployed
from fcn_plugin.export.resizing import Resizing

# The traced example: a batch above 1, and sides one above a multiple of every stride, with no
# feature map of a single pixel. If the network branches on even sizes or on 1, an example of that
# kind would put only that branch into the graph.
BATCH, SIZE = 2, (257, 321)
# The graph is tried at another size, and at least this fraction of the outputs must agree.
OTHER_SIZE, LEAST_ALIKE = (97, 161), 0.999
# The option of torch.export that turns shape conditions torch cannot prove into run-time checks.
RUN_TIME_CHECKS = "prefer_deferred_runtime_asserts_over_guards"
SPREAD = 64  # grey levels per standard deviation in synthetic images


class RandomNetwork(Exception):
    """The network gives different outputs for the same input."""


def export_graph(
    model: nn.Module,
    *,
    argmax: bool = True,
    preprocessing: bool = True,
    size: tuple[int, int] | None = None,
    resizing: Resizing | None = None,
    dtype: torch.dtype = torch.uint8,
) -> ExportedProgram:
    """The exported graph of ``Deployed(model, ...)``; puts ``model`` into eval mode.

    Args:
        argmax, preprocessing, resizing: see ``Deployed``.
        size: fixed (H, W) of all images, for a network that cannot take every size.
        dtype: dtype of the images, if preprocessing is included.

    Raises:
        UserError: the network cannot be exported this way.
    """
    return graph_of(Deployed(model, argmax, preprocessing, resizing), size, dtype)


def graph_of(
    deployed: Deployed, size: tuple[int, int] | None, dtype: torch.dtype
) -> ExportedProgram:
    """The exported graph of a ``Deployed``, which is put into eval mode."""
    if RUN_TIME_CHECKS not in inspect.signature(torch.export.export).parameters:
        raise UserError(f"torch {torch.__version__} is too old to export; pip install -U torch")
    deployed.eval()
    network = f"{type(deployed.model.backbone).__name__} + {type(deployed.head).__name__}"
    faults: list[Exception] = []
    for strict in (False, True):
        try:
            return _decomposed(_traced(deployed, size, strict, dtype))
        except RandomNetwork as error:
            raise UserError(
                f"{network}: cannot be exported, it draws random numbers; switch that off in the "
                "config"
            ) from error
        except Exception as error:  # torch documents no error class; networks raise their own
            faults.append(error)
    # The message of the first attempt is closer to the network's code.
    reason = shortened(faults[0]) or type(faults[0]).__name__
    remedy = "look at it with torch.export.draft_export"
    if size is None:
        remedy = "export it for one size: --size HEIGHT WIDTH"
    raise UserError(f"{network}: cannot be exported, {reason}; {remedy}") from faults[0]


def shortened(error: BaseException) -> str:
    """The beginning of torch's error message, on one line."""
    return " ".join(str(error).split())[:200]


@torch.no_grad()
def _traced(
    deployed: Deployed, size: tuple[int, int] | None, strict: bool, dtype: torch.dtype
) -> ExportedProgram:
    """A graph traced by running the network or, if ``strict``, by analysing its bytecode (slower).

    Only strict tracing follows ``int(size)``, which mmseg calls in ``Upsample`` and with
    align_corners; the other silently fixes the example's size in that case.
    """
    images = _images(deployed, 1, size or OTHER_SIZE, dtype)
    if not _alike(deployed, deployed, images):
        raise RandomNetwork
    dynamic: dict[int, Any] = {0: Dim.DYNAMIC(min=1)}
    if size is None:
        axes = (1, 2) if deployed.preprocessing else (2, 3)
        dynamic |= dict.fromkeys(axes, Dim.DYNAMIC(min=1))
    options: dict[str, Any] = {RUN_TIME_CHECKS: True, "strict": strict}
    example = _images(deployed, BATCH, size or SIZE, dtype)
    graph = torch.export.export(deployed, (example,), dynamic_shapes=(dynamic,), **options)
    if not _alike(graph.module(), deployed, images):
        raise RuntimeError(f"the graph is correct only for images of {size or SIZE}")
    return graph


@torch.no_grad()
def _alike(one: nn.Module, other: nn.Module, images: Tensor) -> bool:
    actual, expected = (module(images).double() for module in (one, other))
    largest = float(expected.nan_to_num(0, 0, 0).abs().max())
    close = torch.isclose(actual, expected, rtol=0, atol=1e-3 * largest, equal_nan=True)
    return bool(close.double().mean() >= LEAST_ALIKE)


def _images(deployed: Deployed, number: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    images = examples(deployed, number, size, dtype).to(next(deployed.parameters()).device)
    return images if deployed.preprocessing else deployed.prepared(images)


def examples(deployed: Deployed, number: int, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Synthetic images N x H x W x C: uint8 ``clouds``, or floats around the mean pixel."""
    images = clouds(number, size, deployed.channels)
    if dtype == torch.uint8:
        return images
    levels = (images.to(dtype) - 127.5) / SPREAD
    if deployed.normal is None:
        return levels
    mean, std = (value.flatten().to(levels) for value in deployed.normal)
    return levels * std + mean


def clouds(number: int, size: tuple[int, int], channels: int = 3) -> Tensor:
    """N x H x W x C, uint8: coloured clouds with some noise, the same at every call."""
    random = torch.Generator().manual_seed(0)
    colours = torch.rand(number, channels, 6, 8, generator=random) * 255
    smooth = functional.interpolate(colours, size, mode="bicubic", align_corners=False)
    noise = torch.randn(number, channels, *size, generator=random) * 8
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def average_pooled(x: Tensor, size: list[int]) -> Tensor:
    """``functional.adaptive_avg_pool2d`` of N x C x h x w, as two matrix products.

    ONNX has no adaptive pooling, and its average pooling has windows of fixed size.
    """
    down, across = (
        _averages(length, pooled, x) for length, pooled in zip(x.shape[-2:], size, strict=True)
    )
    return torch.matmul(torch.matmul(down, x), across.t())


def _averages(length: int, pooled: int, like: Tensor) -> Tensor:
    """Weight matrix pooled x length: the share of each pixel in each average."""
    at = torch.arange(pooled, device=like.device)[:, None]
    start, stop = at * length // pooled, ((at + 1) * length + pooled - 1) // pooled
    pixels = torch.arange(length, device=like.device)
    within = (pixels >= start) & (pixels < stop)
    return within.to(like.dtype) / (stop - start).to(like.dtype)


DECOMPOSITIONS = {torch.ops.aten.adaptive_avg_pool2d.default: average_pooled}


def _decomposed(graph: ExportedProgram) -> ExportedProgram:
    """The graph without operators that ONNX lacks; decomposed only if needed, as it retraces."""
    needed = any(node.target in DECOMPOSITIONS for node in graph.graph.nodes)
    return graph.run_decompositions(DECOMPOSITIONS) if needed else graph
