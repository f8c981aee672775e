"""Process many files on all cores, with PyTorch's data loader as the pool of processes.

Its workers end with their parent process, and a killed worker is an error.
"""

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from threading import Thread
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from fcn_plugin.errors import UserError
from fcn_plugin.system.machine import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    chunk: int = 16,
    jobs: int | None = None,
) -> Iterator[Result]:
    """``map(function, items)`` in several processes, with results in the order of ``items``.

    Work starts at once, before the first result is requested. An error, an interrupt or the end of
    the iteration cancels work that has not started.

    Args:
        function: must be picklable, as are module-level functions; so must items and results.
        chunk: number of items that a process takes at a time.
        jobs: number of processes; None for one per available core.

    Raises:
        UserError: a process was killed; errors of ``function`` are raised unchanged.
    """
    chunks = _Chunks(function, items, chunk)
    jobs = min(jobs or available_cores(), len(chunks))
    if jobs <= 1:
        return map(function, items)
    with _forkable_opencv(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "more workers than cores"
        loader = DataLoader(
            chunks,
            batch_size=None,
            num_workers=jobs,
            collate_fn=_unchanged,
            worker_init_fn=_begin_work,
            generator=torch.Generator(),  # leaves the global one unchanged
        )
        return _results(iter(loader))


class _Chunks(Dataset):
    """Item i: the results of the i-th chunk, and the error that ended it, or None."""

    def __init__(self, function: Callable, items: Sequence, chunk: int) -> None:
        self.function, self.items, self.chunk = function, items, chunk

    def __len__(self) -> int:
        return -(-len(self.items) // self.chunk)

    def __getitem__(self, number: int) -> tuple[list, Exception | None]:
        results: list[Any] = []
        try:
            for item in self.items[number * self.chunk :][: self.chunk]:
                results.append(self.function(item))
        except Exception as error:  # the loader would change the message
            return results, error
        return results, None


def _unchanged(results: Any) -> Any:
    """The results as they are; the loader's default makes lists of tuples, tensors of arrays."""
    return results


def _begin_work(worker: int) -> None:
    # Ctrl-C reaches the workers, too, but the parent ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit as soon as the parent ends; the loader's own check comes only after queued work."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _results(chunks: Iterator[tuple[list, Exception | None]]) -> Iterator[Any]:
    try:
        for results, error in chunks:
            yield from results
            if error is not None:
                raise error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "a worker was killed from outside, as systems do when memory runs out; free memory "
            "and run it again"
        ) from None
    finally:
        del chunks  # ends the workers, even if a caller keeps the error


@contextmanager
def _forkable_opencv() -> Iterator[None]:
    """Turn OpenCV's threads off: a forked process would wait for ever for its copies of them."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
