"""Work on many files by all cores, with PyTorch's data loader as the pool of processes.

Its workers end with the process that began them, and one that is killed is an error.
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
    """``map(function, items)`` by several processes, in the order of ``items``.

    They begin at once, also if the results are asked for later. An error, an interrupt or the end
    of the iteration drops what has not begun yet.

    Args:
        function: of a module, so that it can be sent to a process; so can items and results.
        chunk: items that a process takes at a time.
        jobs: number of processes; all cores that this process may use if None.

    Raises:
        UserError: a process was killed; and whatever ``function`` raises.
    """
    chunks = _Chunks(function, items, chunk)
    jobs = min(jobs or available_cores(), len(chunks))
    if jobs <= 1:
        return map(function, items)
    with _forkable_opencv(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of more processes than cores
        loader = DataLoader(
            chunks,
            batch_size=None,
            num_workers=jobs,
            collate_fn=_unchanged,
            worker_init_fn=_begin_work,
            generator=torch.Generator(),  # or a number is drawn from the program's own
        )
        return _results(iter(loader))


class _Chunks(Dataset):
    """Item i: the results of the i-th chunk, and the error that ended it, if any."""

    def __init__(self, function: Callable, items: Sequence, chunk: int) -> None:
        self.function, self.items, self.chunk = function, items, chunk

    def __len__(self) -> int:
        return -(-len(self.items) // self.chunk)

    def __getitem__(self, number: int) -> tuple[list, Exception | None]:
        results: list[Any] = []
        try:
            for item in self.items[number * self.chunk :][: self.chunk]:
                results.append(self.function(item))
        except Exception as error:  # the loader would change its message
            return results, error
        return results, None


def _unchanged(results: Any) -> Any:
    """Not the loader's own way, which makes lists of tuples and tensors of arrays."""
    return results


def _begin_work(worker: int) -> None:
    # A terminal interrupts the workers, too; it is the parent that ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """At once; the loader lets a worker do first what it has been given."""
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
            "a worker was killed from outside, as systems do when memory runs out; make room and "
            "run it again"
        ) from None
    finally:
        del chunks  # ends the workers, also while the error is still looked at


@contextmanager
def _forkable_opencv() -> Iterator[None]:
    """Without OpenCV's threads: a forked process would wait for its copies of them for ever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
