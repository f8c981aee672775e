"""How much memory a prediction needs, and how much it may use."""

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fcn_plugin.prediction.cost import HIDDEN, Cost
from fcn_plugin.system.memory import Memory

# Share of the free memory to use: some freed memory stays with the system, and others need some.
SHARE = 0.8


def memory_of(device: torch.device) -> Memory:
    if device.type != "cuda":
        return Memory.of_process()
    free, used = torch.cuda.mem_get_info(device)[0], torch.cuda.memory_allocated(device)
    return Memory(used, free + torch.cuda.memory_reserved(device) - used)


class TensorBytes(TorchDispatchMode):
    """Counts, inside its ``with`` block, the bytes of all tensors that are alive.

    Attributes:
        peak: the most bytes at any time, on all devices together.
        largest: number of elements of the largest tensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.largest = 0
        self._bytes: dict[StorageWeakRef, int] = {}  # 0 for tensors from before, such as weights

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors((args, kwargs)):
            self._bytes.setdefault(StorageWeakRef(tensor.untyped_storage()), 0)
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if self._bytes.setdefault(StorageWeakRef(storage), storage.nbytes()):
                self.largest = max(self.largest, tensor.numel())
        self._bytes = {ref: size for ref, size in self._bytes.items() if not ref.expired()}
        self.peak = max(self.peak, sum(self._bytes.values()))
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class Budget:
    """The memory that predictions of a network need, and the memory they may use.

    Args:
        run: predicts a square image of the given side; the flag says whether to read its scores.
        limit: bytes that the process may use on ``device``; None: a share of the free memory.

    Attributes:
        reserve: bytes that are left to pictures which wait, see ``prediction.pipeline``.
    """

    def __init__(
        self,
        network: nn.Module,
        run: Callable[[int, bool], None],
        device: torch.device,
        limit: int | None,
    ) -> None:
        self.run, self.device, self.limit = run, device, limit
        self.largest_weight = max((p.nbytes for p in network.parameters()), default=0)
        self.reserve = 0
        self._costs: dict[bool, Cost] = {}
        self._measuring = Lock()  # a picture may be checked while another is predicted

    def cost(self, scored: bool) -> Cost:
        """Cost of labels, or of labels and scores; measured at the first call."""
        with self._measuring:
            if scored not in self._costs:
                run = partial(self._run, scored=scored)
                self._costs[scored] = Cost.measured(run, self.left())
            return self._costs[scored]

    def _run(self, side: int, scored: bool) -> TensorBytes:
        with TensorBytes() as tensors:
            self.run(side, scored)
        return tensors

    def left(self, held: int = 0) -> float:
        """Bytes left for tensors, beside ``held`` bytes for other things."""
        left = SHARE * (memory_of(self.device).left(self.limit) - held - self.reserve)
        return (left - self.largest_weight) / HIDDEN

    def need(self, side: int, scored: bool = False) -> int:
        """Bytes that must be free to predict a square image."""
        tensors = self.cost(scored).bytes(side, side)
        return int((HIDDEN * tensors + self.largest_weight) / SHARE) + 1 + self.reserve
