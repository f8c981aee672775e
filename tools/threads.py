"""Set the threads of OpenMP and MKL, which torch reads when it is imported; so this comes before.

As a script it prints the threads of each of PROCESSES on this machine: threads.py PROCESSES
"""

from __future__ import annotations

import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

HOME = Path(__file__).resolve().parents[1]  # a clone, or fcn_plugin/.mim as a wheel has it
PACKAGE = HOME.parent if HOME.name == ".mim" else HOME / "fcn_plugin"
# Make waiting threads sleep. By default OpenMP lets them spin, which blocks a core that other work
# may need.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def set_threads() -> str:
    """Set what the user has not set; say why this process has fewer threads than cores.

    Returns:
        The reason, for the user; '' if all cores are used, or the user has chosen.
    """
    if not WAITING.keys() & os.environ.keys():
        os.environ.update(WAITING)
    line = ""
    if not os.environ.get("OMP_NUM_THREADS"):
        threads, line = chosen(int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
        # Without a reason the choice is torch's.
        if line:
            os.environ["OMP_NUM_THREADS"] = str(threads)
    if threads_set := os.environ.get("OMP_NUM_THREADS"):
        # Or mmengine warns of setting it to 1, which torch does not read any more.
        os.environ.setdefault("MKL_NUM_THREADS", threads_set)
    return line if os.environ.get("LOCAL_RANK", "0") == "0" else ""


def chosen(processes: int) -> tuple[int, str]:
    """Threads of each of ``processes``, and a line that says why; '' if they are all cores."""
    threads, reason = module("system/machine").threads_of(processes)
    each = f" in each of {processes} processes" if processes > 1 else ""
    return threads, reason and f"threads: {threads}{each}, since {reason}"


def module(name: str) -> ModuleType:
    """A module of fcn_plugin that imports nothing else of it."""
    spec = spec_from_file_location(name, PACKAGE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    # Other words, such as "gpu", are torch.distributed.run's, which then takes one thread, too.
    word = sys.argv[1]
    threads, line = chosen(int(word)) if word.isdigit() and int(word) else (1, "")
    if line:
        print(line, file=sys.stderr)
    print(threads)
