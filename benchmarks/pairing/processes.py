"""A process for each item, whose memory is given back when it ends and whose crash is its own."""

import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, get_context
from typing import Any


def each_alone(
    function: Callable[[Any], Any], items: Sequence[Any], jobs: int
) -> Iterator[tuple[Any, Any]]:
    """(item, ``function(item)``) as they are done, ``jobs`` at a time.

    Of a process that was killed or crashed the result is a text that says so.
    """
    # A fork has imported the host already.
    context = get_context("fork")
    waiting, running = list(reversed(items)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            item = waiting.pop()
            here, there = context.Pipe(duplex=False)
            process = context.Process(target=_send, args=(function, item, there), daemon=True)
            process.start()
            there.close()  # so that its end is seen here
            running[here] = item, process
        for ready in connection.wait(list(running)):
            item, process = running.pop(ready)
            try:
                result = ready.recv()
            except EOFError:
                process.join()
                result = _end(process.exitcode)
            process.join()
            yield item, result


def _send(function: Callable[[Any], Any], item: Any, to: connection.Connection) -> None:
    to.send(function(item))


def _end(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
