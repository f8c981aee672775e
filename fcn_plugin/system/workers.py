"""Work on many files by all cores, without processes that outlive the one that began them."""

import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from multiprocessing import connection, parent_process
from shutil import rmtree
from tempfile import NamedTemporaryFile, TemporaryDirectory
from threading import Thread
from typing import Any, TypeVar

import cv2

from fcn_plugin.errors import UserError
from fcn_plugin.system.machine import available_cores

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
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    with ExitStack() as owned:
        folder = owned.enter_context(TemporaryDirectory(prefix="fcn_plugin_"))
        pool = ProcessPoolExecutor(jobs, initializer=_begin_work, initargs=(folder,))
        owned.callback(pool.shutdown, cancel_futures=True)
        with _forkable_opencv(), _told_if_killed(pool):
            files = deque(pool.submit(_work, function, folder, some) for some in chunks)
        results = _results(files, pool, owned.pop_all())
    next(results)
    return results


def _work(function: Callable[[Item], Result], folder: str, items: Sequence[Item]) -> str:
    """In a worker: do ``function`` of each, and leave the results in a file.

    Through the pool's pipe goes only its name, which is written as a whole or not at all: of what
    is longer a worker that is killed may have written a part, and the pool waits for the rest for
    ever.
    """
    results = [function(item) for item in items]
    with NamedTemporaryFile(dir=folder, delete=False) as file:
        pickle.dump(results, file, pickle.HIGHEST_PROTOCOL)
    return file.name


@contextmanager
def _forkable_opencv() -> Iterator[None]:
    """Without OpenCV's threads: a forked process would wait for its copies of them for ever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def _told_if_killed(pool: ProcessPoolExecutor) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        # Nothing is cancelled before the pool has marked all as broken, or its thread fails on what
        # was, and does not end the other workers.
        pool.shutdown()
        raise UserError(
            "a worker was killed from outside, as systems do when memory runs out; make room and "
            "run it again"
        ) from None


def _results(
    files: deque[Future[str]], pool: ProcessPoolExecutor, owned: ExitStack
) -> Iterator[Any]:
    with owned, _told_if_killed(pool):
        yield None  # begun, so that it ends what it owns also if nobody asks for a result
        while files:
            file = files.popleft().result()
            with open(file, "rb") as stored:
                results = pickle.load(stored)
            os.unlink(file)
            yield from results


def _begin_work(folder: str) -> None:
    # A terminal interrupts the workers, too; it is the parent that ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(folder,), daemon=True).start()


def _end_with_parent(folder: str) -> None:
    """A worker waits for work for ever, also when whoever would send it was killed.

    Who was killed has not removed the results, either.
    """
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    rmtree(folder, ignore_errors=True)
    os._exit(1)
