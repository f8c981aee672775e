"""Start tools as forks of a process that has imported everything already, seconds faster.

Each line of the input is an order as JSON: ``argv`` (the tool's file first), ``cwd``, ``env``, and
``folder``, where the tool's output goes into ``stdout`` and ``stderr``, its process id into ``pid``
when it begins, and its exit status into ``status`` when it has ended. Its process group is its own.
"""

import gc
import json
import os
import runpy
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# What a run imports sooner or later; ours first, which makes mmseg importable.
PRELOADED = (
    "fcn_plugin",
    "mmengine.runner",
    "mmseg.apis",
    "torch.utils.tensorboard",
    "matplotlib.backends.backend_agg",
)


def serve() -> None:
    for name in PRELOADED:
        import_module(name)
    # Half of a short run is mmengine's laying out of its config, for the log, the work dir and
    # each checkpoint. As it is built it is Python, too.
    import_module("mmengine.config.config").FormatCode = lambda text, **_: (text, True)
    gc.freeze()  # or each tool's garbage collector would go through all of it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    for line in sys.stdin:
        order = json.loads(line)
        if os.fork() == 0:
            keep(order)


def keep(order: dict[str, Any]) -> None:
    """Start the tool and tell how it ended; does not return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder = Path(order["folder"])
    process = os.fork()
    if process == 0:
        become(folder, order)
    write(folder / "pid", process)
    _, status = os.waitpid(process, 0)
    write(folder / "status", os.waitstatus_to_exitcode(status))
    os._exit(0)


def write(file: Path, number: int) -> None:
    """Whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(str(number))
    part.replace(file)


def become(folder: Path, order: dict[str, Any]) -> None:
    """Be the tool; does not return."""
    os.setsid()
    os.chdir(order["cwd"])
    for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        stream = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(stream, number)
        os.close(stream)
    # As from a terminal, also where these tests run in the background, to which Ctrl-C is nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["argv"]
    sys.path[:1] = [str(Path(sys.argv[0]).parent), *os.environ["PYTHONPATH"].split(os.pathsep)]
    sys.stdin = os.fdopen(0)
    runpy.run_path(sys.argv[0], run_name="__main__")
    sys.exit(0)


if __name__ == "__main__":
    serve()
