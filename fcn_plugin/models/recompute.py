"""Activation checkpointing that leaves the same state as an ordinary forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(stage: nn.Module, x: Tensor) -> Tensor:
    """``stage(x)``, its activations recomputed in the backward pass instead of kept."""

    def contexts() -> tuple:
        return nullcontext(), frozen_statistics(stage)

    return checkpoint(stage, x, use_reentrant=False, context_fn=contexts)


@contextmanager
def frozen_statistics(stage: nn.Module) -> Iterator[None]:
    """BatchNorm leaves its running statistics alone.

    The recomputation is a second forward pass over the same batch, which would otherwise count
    twice.
    """
    norms = [m for m in stage.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    # Not track_running_stats: with it off BatchNorm saves fewer tensors than the first time.
    kept = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, batches in kept:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)
