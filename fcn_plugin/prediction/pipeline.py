"""Read pictures ahead of the network and write results behind it, in threads beside it.

    reader thread:  picture 5   picture 6   ...      at most ``number`` wait to be predicted,
    main thread:    network of picture 3             in order
    writers:        labels of 1, overlay of 2        at most ``number`` wait to be written

Decoders, encoders and the network leave Python to other threads while they work. What waits is
bounded in bytes too: a picture too large for that is read when nothing else is under way, and
written before the next is predicted, as without threads.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Protocol

from fcn_plugin.data.picture_files import CheckSize
from fcn_plugin.system.memory import PIXEL, SMALL, Memory

# Of the free memory, pictures that wait may take this part, and at most so many bytes. It is less
# than what the message of a refused limit adds to what is needed.
PART, MOST = 32, 2**29
WRITING = 20  # peak bytes per pixel while a result is written: it, its overlay, and their files


class Reads(Protocol):
    """Reads a file; the picture has ``image`` [H, W, ...] and ``nbytes``, with its inputs.

    Attributes:
        check_size: called with path and (width, height) before a picture is decoded, if
            ``tells_size``.
    """

    check_size: CheckSize
    tells_size: bool

    def __call__(self, image: Path, /) -> Any: ...


class _Closed(Exception):
    """Nobody waits for the picture any more."""


def bytes_for_waiting(limit: int | None) -> int:
    """Bytes that pictures may take which wait, of a process that may use ``limit`` in all."""
    return min(max(Memory.of_process().left(limit), 0) // PART, MOST)


class Pipeline:
    """Reads and writes in threads beside its ``with`` block, which ends when all is written.

    If the block is interrupted, what waits is dropped; what is being written becomes whole.

    Args:
        most: bytes for pictures that wait, half of them ahead of the network and half behind it.
        number: most pictures that wait ahead, and most that wait behind.
        writers: number of threads that write; with one the order is kept.
        on_gpu: the network has other memory. On the CPU it has most of what is free, against which
            large pictures are checked, and these are read alone.

    Attributes:
        ahead, behind: bytes that wait to be predicted, and that wait to be written or are.
    """

    def __init__(self, most: int, number: int = 4, writers: int = 1, on_gpu: bool = False) -> None:
        self._half, self._number = most // 2, number
        self._largest = inf if on_gpu else SMALL  # pixels of a picture that is not read alone
        self.ahead = self.behind = 0
        self._changed = Condition()  # guards all below, and ahead and behind
        self._pictures: deque[tuple[Path, Path, Any, int]] = deque()
        self._jobs: deque[Future[None]] = deque()
        self._asked = self._closed = self._complete = False
        self._reading = self._unwritten = 0  # bytes being read; number of unfinished jobs
        self._rate: float | None = None  # bytes of a pixel; unknown before the first picture
        self._pool = ThreadPoolExecutor(writers)

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        interrupted = kind is not None and not issubclass(kind, Exception)
        try:
            self._pool.shutdown(wait=not interrupted, cancel_futures=interrupted)
        except KeyboardInterrupt:
            self._pool.shutdown(wait=False, cancel_futures=True)
            raise
        if not interrupted:
            self._raise_first(wait=True)

    # --- reading ----------------------------------------------------------------------------------

    def read(
        self, files: Iterable[tuple[Path, Path]], read: Reads
    ) -> Iterator[tuple[Path, Path, Any]]:
        """Each name and file in turn, with the picture or the exception that reading it raised.

        Only what iterates has the picture then, and frees it when it is done.
        """
        check = read.check_size

        def admit_and_check(path: str | Path, size: tuple[int, int]) -> None:
            self._admit(size[0] * size[1])
            check(path, size)

        read.check_size = admit_and_check
        self._complete = False
        Thread(target=self._read_all, args=(files, read), name="reader").start()
        try:
            while True:
                with self._changed:
                    self._asked = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._pictures or self._complete)
                    self._asked = False
                    if not self._pictures:
                        return
                    name, file, outcome, size = self._pictures.popleft()
                    self.ahead -= size
                    self._changed.notify_all()
                yield name, file, outcome
                del outcome  # or it would stay in memory while the next one is read
        finally:
            read.check_size = check

    def _read_all(self, files: Iterable[tuple[Path, Path]], read: Reads) -> None:
        for name, file in files:
            outcome: Any
            try:
                if not read.tells_size:
                    self._admit(None)
                outcome = read(file)
                pixels = outcome.image.shape[0] * outcome.image.shape[1]
                self._rate = max(self._rate or PIXEL, 2 * outcome.nbytes / pixels)
            except Exception as error:  # the main thread raises or tells it, in its turn
                outcome = error
            with self._changed:
                if self._closed:
                    return
                self._pictures.append((name, file, outcome, self._reading))
                self._reading = 0
                self._changed.notify_all()
            del outcome
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def _admit(self, pixels: int | None) -> None:
        """Wait until a picture may be decoded: beside the network, or alone if it is large."""
        beside, size = False, 0
        with self._changed:
            if pixels is not None and self._rate is not None:
                beside, size = pixels <= self._largest, round(pixels * self._rate)
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or (self._asked and not self._pictures and not self._unwritten)
                    or (
                        beside
                        and len(self._pictures) < self._number
                        and self.ahead + size <= self._half
                    )
                )
            )
            if self._closed:
                raise _Closed
            self._reading = size
            self.ahead += size

    # --- writing ----------------------------------------------------------------------------------

    def write(self, job: Callable[[], None], pixels: int) -> None:
        """Do a job that writes the result of a picture: soon, or at once if it is large.

        Raises:
            Exception: an earlier job's, in the order in which they were handed over.
        """
        size = WRITING * pixels
        beside = size <= self._half
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    not self._unwritten
                    or (
                        beside
                        and self._unwritten < self._number
                        and self.behind + size <= self._half
                    )
                )
            )
        self._raise_first(wait=not beside)
        if not beside:
            job()
            return
        with self._changed:
            self.behind += size
            self._unwritten += 1
        self._jobs.append(self._pool.submit(self._written, job, size))

    def _written(self, job: Callable[[], None], size: int) -> None:
        try:
            job()
        finally:
            with self._changed:
                self.behind -= size
                self._unwritten -= 1
                self._changed.notify_all()

    def _raise_first(self, wait: bool = False) -> None:
        while self._jobs and (wait or self._jobs[0].done()):
            try:
                self._jobs.popleft().result()
            except BaseException:
                self._jobs.clear()  # or the end of the block would raise a later one's
                raise
