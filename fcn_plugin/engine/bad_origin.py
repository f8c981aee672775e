"""Where in a network the first number arises that is none."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fcn_plugin.models.skip_fusion import SkipFusionHead

OF_IMAGES = ("image", "input", "output")  # with a row for each


def flaw(tensor: Tensor) -> str:
    """'nan', 'inf', or '' for a tensor that has neither."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    # Of the extremes alone: isfinite would make another tensor as large.
    extremes = torch.stack(tensor.detach().aminmax())
    return "" if extremes.isfinite().all() else "nan" if extremes.isnan().any() else "inf"


@dataclass
class Batch:
    """A preprocessed batch, and the states of the random numbers that the network drew for it."""

    data: Any
    cpu: Tensor
    gpu: tuple[torch.device, Tensor] | None = None

    @classmethod
    def of(cls, data: Any) -> "Batch":
        device = next((t.device for t in _tensors(data) if t.is_cuda), None)
        gpu = (device, torch.cuda.get_rng_state(device)) if device else None
        return cls(data, torch.get_rng_state(), gpu)

    @property
    def inputs(self) -> Any:
        return self.data.get("inputs") if isinstance(self.data, dict) else self.data

    @contextmanager
    def same_chance(self) -> Iterator[None]:
        """The random numbers of the first pass; those to come are left as they would be."""
        with torch.random.fork_rng([self.gpu[0]] if self.gpu else []):
            torch.set_rng_state(self.cpu)
            if self.gpu:
                device, state = self.gpu
                torch.cuda.set_rng_state(state, device)
            yield


@dataclass
class Origin:
    """The first thing found not to be finite.

    Attributes:
        part: 'image', 'input', 'weight', 'statistic' (of BatchNorm), 'output' or 'gradient';
            'loss' if all layers are finite; '' if nothing was found.
        layer: its name and class.
        flaw: 'nan' or 'inf'.
        rows: which images of the batch are concerned, if not all alike.
        failure: why the search failed.
    """

    part: str = ""
    layer: str = ""
    flaw: str = ""
    rows: Sequence[int] | None = None
    failure: str = ""

    @property
    def words(self) -> str:
        """For a message; '' if nothing was found."""
        if self.failure:
            return f"the layer could not be found ({self.failure})"
        if self.part == "image":
            return f"the image itself has {self.flaw} once it is preprocessed"
        if self.part == "loss":
            return "the outputs of all layers are finite"
        return f"first layer: {self.layer}, its {self.part} has {self.flaw}" if self.part else ""

    def of(self, images: list[str]) -> list[str]:
        """Those of the batch's ``images`` that are concerned."""
        chosen = None if self.rows is None else [i for i in self.rows if i < len(images)]
        return images if chosen is None else [images[i] for i in chosen]


def find_origin(model: nn.Module, batch: Batch, precision: AbstractContextManager[None]) -> Origin:
    """Forward and backward pass of ``batch`` under ``precision``, until something is not finite.

    No ``grad`` is changed, and no other process is waited for. Buffers may change.
    """
    data, images = batch.data, _size(batch.inputs)
    for tensor in _tensors(batch.inputs):
        if found := flaw(tensor):
            return Origin("image", "", found, _rows(tensor, images))
    given = data if isinstance(data, dict) else {}
    args = () if given else data
    with _alone(model), _watched(model, images) as watch:
        with batch.same_chance(), precision:
            # The class's own: the instance's may be compiled, and pass the watch by.
            losses = type(model).forward(model, *args, **given, mode="loss")
        loss, _ = model.parse_losses(losses)  # type: ignore[operator]
        if watch.origin.part:
            return watch.origin
        if flaw(loss):
            return Origin("loss", "", flaw(loss))
        return _gradient_origin(loss, list(watch.ran))


def _gradient_origin(loss: Tensor, layers: list[tuple[str, nn.Module]]) -> Origin:
    """The last layer on the way forward, which is the first on the way back."""
    trained = {p for _, layer in layers for p in layer.parameters(False) if p.requires_grad}
    gradients = dict(
        zip(trained, torch.autograd.grad(loss, list(trained), allow_unused=True), strict=True)
    )
    for name, layer in reversed(layers):
        for parameter in layer.parameters(recurse=False):
            gradient = gradients.get(parameter)
            if gradient is not None and (found := flaw(gradient)):
                return Origin("gradient", _titled(name, layer), found)
    return Origin()


class _Watch:
    """Looks at what goes into each layer, at its weights and at what comes out.

    Attributes:
        ran: the layers in the order in which they ran first.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.origin = Origin()
        self.ran: dict[tuple[str, nn.Module], None] = {}

    def before(self, name: str, layer: nn.Module, args: tuple) -> None:
        self.ran.setdefault((name, layer))
        self._look(name, layer, "input", args)
        self._look(name, layer, "weight", list(layer.parameters(recurse=False)))
        if not layer.training:  # else BatchNorm only writes its statistics
            self._look(name, layer, "statistic", list(layer.buffers(recurse=False)))

    def after(self, name: str, layer: nn.Module, args: tuple, output: Any) -> None:
        self._look(name, layer, "output", output)

    def _look(self, name: str, layer: nn.Module, part: str, values: Any) -> None:
        if self.origin.part:
            return
        for tensor in _tensors(values):
            if found := flaw(tensor):
                rows = _rows(tensor, self.images) if part in OF_IMAGES else None
                self.origin = Origin(part, _titled(name, layer), found, rows)
                return


@contextmanager
def _watched(model: nn.Module, images: int) -> Iterator[_Watch]:
    """Every layer that has weights of its own or no others inside."""
    watch, handles = _Watch(images), []
    for name, layer in model.named_modules():
        if not any(layer.children()) or any(True for _ in layer.parameters(recurse=False)):
            handles.append(layer.register_forward_pre_hook(partial(watch.before, name)))
            handles.append(layer.register_forward_hook(partial(watch.after, name)))
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _alone(model: nn.Module) -> Iterator[None]:
    """No layer waits for other processes, as each may end elsewhere.

    ``SyncBatchNorm`` normalises by this process's images, a head takes the mean of its own pixels.
    """
    heads = [m for m in model.modules() if isinstance(m, SkipFusionHead) and m.together]
    for head in heads:
        head.together = False
    norms = [layer for layer in model.modules() if isinstance(layer, nn.SyncBatchNorm)]
    states = [(norm.training, norm.running_mean, norm.running_var) for norm in norms]
    for norm in norms:  # which without statistics takes those of the batch, training or not
        norm.training, norm.running_mean, norm.running_var = False, None, None
    try:
        yield
    finally:
        for norm, (training, mean, var) in zip(norms, states, strict=True):
            norm.training, norm.running_mean, norm.running_var = training, mean, var
        for head in heads:
            head.together = True


def _titled(name: str, layer: nn.Module) -> str:
    return f"{name or 'the model'} ({type(layer).__name__})"


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _size(inputs: Any) -> int:
    """Number of images in a batch; 0 if it cannot be told."""
    return len(inputs) if isinstance(inputs, Tensor) and inputs.ndim else 0


def _rows(tensor: Tensor, images: int) -> list[int] | None:
    """The images concerned, of a tensor with one row for each; None of any other."""
    if not tensor.ndim or len(tensor) != images:
        return None
    return [i for i, row in enumerate(tensor.detach()) if flaw(row)]
