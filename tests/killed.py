"""Run a function in a process that is killed at one of its operations on files."""

import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


def run(function: Callable[[], object], folder: Path, killed_at: int = 0) -> int:
    """How many operations it needed below ``folder``, or minus the signal that ended it."""
    context = get_context("fork")
    queue = context.SimpleQueue()

    def work() -> None:
        count, me = 0, os.getpid()

        def look(event: str, arguments: tuple) -> None:
            nonlocal count
            if event in OPERATIONS and os.getpid() == me:
                count += str(arguments[0]).startswith(str(folder))
                if count == killed_at > 0:
                    os.kill(me, signal.SIGKILL)

        sys.addaudithook(look)
        function()
        queue.put(count)

    process = context.Process(target=work)
    process.start()
    process.join(120)
    return process.exitcode or queue.get()
