"""Activation checkpointing that leaves the same state as an ordinary forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(stage: nn.Module, x: Tensor) -> Tensor:
    """``stage(x)``; its activations are recomputed in the backward pass instead of kept."""

    def contexts() -> tuple:
        return nullcontext(), frozen_statistics(stage)

    # torch.compile supports no contexts, and without normalisation there is nothing to freeze.
    if not any(isinstance(m, _BatchNorm) for m in stage.modules()):
        return checkpoint(stage, x, use_reentrant=False)
    return checkpoint(stage, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def frozen_statistics(stage: nn.Module) -> Iterator[None]:
    """Keep the running statistics of batch norms: the recomputation is a second forward pass, and
    would count a batch twice."""
    norms = [m for m in stage.modules() if isinstance(m, _BatchNorm)]
    # Not by track_running_stats: without it BatchNorm saves fewer tensors than in the first pass.
    momenta = [norm.momentum for norm in norms]
    batches = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None  # None is not counted up
    try:
        yield
    finally:
        for norm, momentum, counted in zip(norms, momenta, batches, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked = counted
