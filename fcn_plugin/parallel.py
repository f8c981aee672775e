"""Work on many files by all cores, without processes that outlive the one that began them."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from threading import Thread
from typing import TypeVar

import cv2

from fcn_plugin.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 61  # more are refused on Windows


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
        function: Of a module, so that it can be sent to a process; so can items and results.
        chunk: Items that a process takes at a time.
        jobs: Number of processes; all cores that this process may use if None.

    Raises:
        UserError: a process was killed; and whatever ``function`` raises.
    """
    jobs = min(jobs or available_cores(), -(-len(items) // chunk), MAX_WORKERS)
    if jobs <= 1:
        return map(function, items)
    pool = ProcessPoolExecutor(jobs, initializer=_begin_work)
    try:
        with _forkable_opencv():
            results = pool.map(function, items, chunksize=chunk)
    except BaseException:  # an interrupt while the work is handed out
        pool.shutdown(cancel_futures=True)
        raise
    return _results(pool, results)


@contextmanager
def _forkable_opencv() -> Iterator[None]:
    """Without OpenCV's threads: a forked process would wait for its copies of them for ever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _results(pool: ProcessPoolExecutor, results: Iterator[Result]) -> Iterator[Result]:
    try:
        yield from results
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed from outside, as systems do when memory runs out; make room and "
            "run it again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """The cores that this process may use, which in a container can be fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # only Linux has it
        return os.cpu_count() or 1


def _begin_work() -> None:
    # A terminal interrupts the workers, too; it is the parent that ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for work for ever, also when whoever would send it was killed."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
