"""Run a bad batch through the network again to find the first layer with NaN or inf."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

OF_IMAGES = ("image", "input", "output")  # parts that have one row per image


def nonfinite_kind(tensor: Tensor) -> str:
    """'nan', 'inf', or '' if ``tensor`` has neither."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    # Look at minimum and maximum only: isfinite would make another tensor of the same size.
    extremes = torch.stack(tensor.detach().aminmax())
    return "" if extremes.isfinite().all() else "nan" if extremes.isnan().any() else "inf"


@dataclass
class Batch:
    """A preprocessed batch, and the states of the random generators before its first pass."""

    data: Any
    cpu: Tensor
    gpus: tuple[list[int], list[Tensor]]  # indices and states

    @classmethod
    def of(cls, data: Any) -> "Batch":
        on_gpus = [tensor for tensor in _tensors(data) if tensor.is_cuda]
        return cls(data, torch.get_rng_state(), get_device_states(*on_gpus))

    @contextmanager
    def same_chance(self) -> Iterator[None]:
        """Repeat the first pass's random numbers in the block; restore the generators after it."""
        with torch.random.fork_rng(self.gpus[0]):
            torch.set_rng_state(self.cpu)
            set_device_states(*self.gpus)
            yield


@dataclass
class Origin:
    """Where NaN or inf first appears.

    Attributes:
        part: 'image', 'input', 'weight', 'statistic' (of BatchNorm), 'output' or 'gradient';
            'loss' if all layers are finite; '' if nothing was found.
        layer: The layer's name and class.
        kind: 'nan' or 'inf'.
        rows: Indices of the bad images in the batch; None for all.
        failure: Why the search failed.
    """

    part: str = ""
    layer: str = ""
    kind: str = ""
    rows: Sequence[int] | None = None
    failure: str = ""

    @property
    def words(self) -> str:
        """The origin in a message's words; '' if nothing was found."""
        if self.failure:
            return f"the layer could not be found ({self.failure})"
        if self.part == "image":
            return f"the image itself has {self.kind} once it is preprocessed"
        if self.part == "loss":
            return "the outputs of all layers are finite"
        return f"first layer: {self.layer}, its {self.part} has {self.kind}" if self.part else ""

    def of(self, images: list[str]) -> list[str]:
        """The bad ones of the batch's ``images``."""
        return images if self.rows is None else [images[i] for i in self.rows if i < len(images)]


def find_origin(model: nn.Module, batch: Batch, precision: AbstractContextManager[None]) -> Origin:
    """The first NaN or inf in a forward and backward pass of ``batch`` under ``precision``.

    Changes no ``grad`` and waits for no other process. Buffers may change.
    """
    data = batch.data
    inputs = data.get("inputs") if isinstance(data, dict) else data
    search = _Search(len(inputs) if isinstance(inputs, Tensor) and inputs.ndim else 0)
    search.judge("", image=inputs)
    if search.origin.part:
        return search.origin
    args, settings = ((), data) if isinstance(data, dict) else (data, {})
    with _alone(model), search.watching(model):
        with batch.same_chance(), precision:
            # The class's forward: the instance's may be compiled and would then call no hooks.
            losses = type(model).forward(model, *args, **settings, mode="loss")
        loss, _ = model.parse_losses(losses)  # type: ignore[operator]
        search.judge("", loss=loss)
        if not search.origin.part:
            search.judge_gradients(loss)
    return search.origin


class _Search:
    """Watches all layers' outputs; looks at every part of the first layer with NaN or inf."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.origin = Origin()
        self.ran: dict[str, nn.Module] = {}  # ordered by their first call

    def judge(self, layer: str, **parts: Any) -> None:
        """Make the first part with NaN or inf the origin, if none was found before."""
        for part, values in parts.items():
            for tensor in _tensors(values):
                if not self.origin.part and (kind := nonfinite_kind(tensor)):
                    self.origin = Origin(part, layer, kind, self._rows(part, tensor))

    def _rows(self, part: str, tensor: Tensor) -> list[int] | None:
        if part not in OF_IMAGES or not tensor.ndim or len(tensor) != self.images:
            return None
        return [i for i, row in enumerate(tensor.detach()) if nonfinite_kind(row)]

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Watch every layer that has weights of its own or no child layers."""
        with ExitStack() as hooks:
            for name, layer in model.named_modules():
                if not any(layer.children()) or any(True for _ in layer.parameters(recurse=False)):
                    title = f"{name or 'the model'} ({type(layer).__name__})"
                    hook = layer.register_forward_hook(partial(self._look, title))
                    hooks.callback(hook.remove)
            yield

    def _look(self, title: str, layer: nn.Module, args: tuple, output: Any) -> None:
        self.ran.setdefault(title, layer)
        if self.origin.part or not any(map(nonfinite_kind, _tensors(output))):
            return
        self.judge(
            title,
            input=args,
            weight=list(layer.parameters(recurse=False)),
            # In training BatchNorm only writes its statistics.
            statistic=[] if layer.training else list(layer.buffers(recurse=False)),
            output=output,
        )

    def judge_gradients(self, loss: Tensor) -> None:
        """Look at the gradients of the weights, last layer first, as the backward pass does."""
        trained = [
            (title, parameter)
            for title, layer in reversed(self.ran.items())
            for parameter in layer.parameters(recurse=False)
            if parameter.requires_grad
        ]
        gradients = torch.autograd.grad(loss, [p for _, p in trained], allow_unused=True)
        for (title, _), gradient in zip(trained, gradients, strict=True):
            self.judge(title, gradient=gradient)


@contextmanager
def _alone(model: nn.Module) -> Iterator[None]:
    """Let no layer wait for other processes, whose passes may end at another layer.

    ``SyncBatchNorm`` and the heads' losses use the images of this process only.
    """
    heads: list[Any] = [m for m in model.modules() if getattr(m, "together", False) is True]
    for head in heads:
        head.together = False
    norms = [layer for layer in model.modules() if isinstance(layer, nn.SyncBatchNorm)]
    states = [(norm.training, norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:  # without statistics it uses those of the batch, training or not
        norm.training, norm.running_mean, norm.running_var = False, None, None
    try:
        yield
    finally:
        for norm, (training, mean, var) in zip(norms, states, strict=True):
            norm.training, norm.running_mean, norm.running_var = training, mean, var
        for head in heads:
            head.together = True


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
