"""Run each item in its own process, so that memory is freed and a crash stays contained."""

import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, get_context
from typing import Any


def each_alone(
    function: Callable[[Any], Any], items: Sequence[Any], jobs: int
) -> Iterator[tuple[Any, Any]]:
    """(item, ``function(item)``) in the order they finish, ``jobs`` at a time.

    If a process is killed or crashes, the result is a text that says so.
    """
    context = get_context("fork")  # so that mmseg is already imported
    waiting, running = list(reversed(items)), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            item = waiting.pop()
            receiver, sender = context.Pipe(duplex=False)
            work = lambda item=item, sender=sender: sender.send(function(item))  # noqa: E731
            process = context.Process(target=work, daemon=True)
            process.start()
            sender.close()  # then recv() fails if the child ends
            running[receiver] = item, process
        for ready in connection.wait(list(running)):
            item, process = running.pop(ready)
            try:
                result = ready.recv()
            except EOFError:
                process.join()
                code = process.exitcode
                result = (
                    f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
                )
            process.join()
            yield item, result
