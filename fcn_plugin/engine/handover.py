"""Hand a batch from a data loader's worker to the training process in one piece of shared memory.

PyTorch hands over each tensor in a file of its own, and the training process asks the worker for
one file after the other: for 32 of them where a batch has 16 images and labels. Here it asks once,
and labels take an eighth of the memory on the way.
"""

import io
import pickle
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

ALIGNMENT = 64  # bytes, as of PyTorch's own memory on a CPU


def in_one_piece(loader: DataLoader) -> DataLoader:
    """The loader, changed so that its workers hand over each batch in one piece.

    The batches have the same types, shapes and values as before. Without workers nothing changes.
    """
    if loader.num_workers > 0 and getattr(loader.collate_fn, "func", None) is not _piece:
        loader.collate_fn = partial(_piece, collate=loader.collate_fn)
    return loader


def _piece(samples: list, collate: Callable[[list], Any]) -> "Piece":
    return Piece(collate(samples))


class Piece:
    """A batch on its way: another process that unpickles a piece gets the batch itself.

    Attributes:
        memory: [bytes] uint8, shared: the arrays, each from a multiple of ``ALIGNMENT`` on.
        bounds: where each array begins and ends in ``memory``.
        pickled: the batch without its arrays.
    """

    def __init__(self, batch: Any) -> None:
        stream = io.BytesIO()
        buffers: list[pickle.PickleBuffer] = []
        _Pickler(stream, 5, True, buffers.append).dump(batch)
        self.pickled = stream.getvalue()
        arrays = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
        sizes = [-(-array.size // ALIGNMENT) * ALIGNMENT for array in arrays]
        *starts, end = accumulate(sizes, initial=0)
        self.bounds = [
            (start, start + array.size) for start, array in zip(starts, arrays, strict=True)
        ]
        # As PyTorch's default_collate does in a worker; share_memory_() would copy the memory.
        storage = torch.UntypedStorage._new_shared(max(end, 1))
        self.memory = torch.empty(0, dtype=torch.uint8).set_(storage)
        whole = self.memory.numpy()
        for (start, stop), array in zip(self.bounds, arrays, strict=True):
            whole[start:stop] = array

    def __reduce__(self) -> tuple:
        return _batch, (self.pickled, self.memory, self.bounds)


def _batch(pickled: bytes, memory: torch.Tensor, bounds: list[tuple[int, int]]) -> Any:
    whole = memory.numpy()
    return pickle.loads(pickled, buffers=[whole[start:stop] for start, stop in bounds])


class _Pickler(ForkingPickler):
    """Leaves NumPy's arrays, and tensors that NumPy can view, to the buffers."""

    def reducer_override(self, item: Any) -> Any:
        if type(item) is not torch.Tensor:
            return NotImplemented
        try:
            array = item.numpy()
        except (TypeError, RuntimeError):  # bfloat16 and sparse tensors, those with a gradient
            return NotImplemented
        if _fits_uint8(item):
            return _widened, (array.astype(np.uint8),)
        return torch.from_numpy, (array,)


def _fits_uint8(tensor: torch.Tensor) -> bool:
    if tensor.dtype != torch.int64 or tensor.numel() == 0:
        return False
    low, high = (int(bound) for bound in tensor.aminmax())
    return low >= 0 and high <= 255


def _widened(labels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(labels).long()
