"""Split the time of a training step by kind of operation, with torch's profiler."""

from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from figures.framework import synchronize

STEP = "training step"
# Kind -> parts of the names of its operations, or of those around them. The first match counts.
KINDS = {
    "optimizer": ("Optimizer.",),
    "convolution": ("conv",),
    "pooling": ("pool", "MaxPool"),
    "relu": ("relu", "Relu", "threshold", "clamp_min"),
    "loss": ("softmax", "Softmax", "nll_loss", "NllLoss", "cross_entropy", "topk", "argmax"),
    "dropout": ("dropout", "bernoulli"),
    "upsampling": ("upsample", "interpolat", "matmul", "bmm", "aten::mm", "MmBackward"),
    "normalisation": ("batch_norm", "BatchNorm"),
    "copies": ("copy", "contiguous", "clone", "aten::to", "stack", "cat", "Memcpy"),
    "python": (STEP,),
}
PARTS = [(kind, part) for kind, parts in KINDS.items() for part in parts]


def time_by_kind(call: Callable[[], object], device: torch.device) -> Counter[str]:
    """Seconds of one call by kind, longest first; time between operations counts as "python".

    On CUDA these are seconds of kernels, which run in parallel with Python.
    """
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda
    with profile(activities=activities) as profiler:
        with record_function(STEP):
            call()
        synchronize(device)
    kinds: Counter[str] = Counter()
    for event in profiler.events():
        # CPU events include the time of their kernels; events of kernels would count it twice.
        if event.device_type == DeviceType.CPU:
            taken = event.self_device_time_total if cuda else event.self_cpu_time_total
            names = _around(event)
            # On CUDA the backward pass runs in another thread, outside of STEP.
            if taken > 0 and (STEP in names or any("evaluate_function" in n for n in names)):
                fits = (kind for name in names for kind, part in PARTS if part in name)
                kinds[next(fits, "other")] += taken / 1e6
    return Counter(dict(kinds.most_common()))


def _around(event: FunctionEvent | None) -> list[str]:
    """Names of the operation and of its parents, innermost first."""
    names = []
    while event is not None:
        names.append(event.name)
        event = event.cpu_parent
    return names
