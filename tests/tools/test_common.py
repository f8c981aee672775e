"""What all tools share: an error in one line, and how threads and workers treat the machine."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
from tools.running import TOOLS, as_module
from torch.utils.data import DataLoader


def error_of(work: Callable[[], object], timeout: float = 60) -> Exception:
    """Of a loader whose worker does this."""
    with pytest.raises((RuntimeError, ValueError)) as error:
        next(iter(DataLoader([0], num_workers=1, timeout=timeout, collate_fn=lambda _: work())))
    return error.value


# What is raised, and words of the line that says what to do.
ERRORS = {
    "[gloo/transport/tcp/pair.cc:534] Read error: Connection reset by peer": "another process",
    "Timed out waiting 600000ms": "env_cfg.dist_cfg.timeout",
    "received 0 items of ancdata": "ulimit -n",
    "Cannot infer the rule for key mDice": "key mDice; set rule=",
}


def test_one_line_says_what_to_do():
    errors = [(RuntimeError(text), words) for text, words in ERRORS.items()]
    errors.append((OSError(errno.ENOSPC, "No space left", "a.png"), "a.png: the disk"))
    errors.append((error_of(partial(time.sleep, 60), timeout=1), "dataloader.timeout"))
    errors.append((error_of(lambda: os.kill(os.getpid(), signal.SIGKILL)), "num_workers"))
    with as_module("common") as common:
        assert common.explain(error_of(partial(time.sleep, -1))) is None
        for error, words in errors:
            line = common.explain(error)
            assert words in line and len(line.splitlines()) == 1


NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SHOW = f"import json, os, sys; print(json.dumps([*map(os.environ.get, {NAMES})]))"


def test_waiting_threads_sleep_unless_the_user_has_chosen():
    command = [sys.executable, "-c", f"import common; {SHOW}"]
    unset = {name: value for name, value in os.environ.items() if name not in NAMES}
    for chosen, expected in (
        ({}, ["PASSIVE", "0"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "1000"}, [None, "1000"]),
    ):
        shown = subprocess.check_output(command, env=unset | chosen, cwd=TOOLS, text=True)
        assert json.loads(shown) == expected


FORK = """
import gc, os
from common import share_memory_with_workers
share_memory_with_workers()
inherited = [[n] for n in range(50_000)]
if os.fork() == 0:
    print(gc.get_freeze_count())
else:
    os.wait()
"""


def test_the_garbage_collector_of_a_worker_leaves_what_it_inherited():
    """It would write into each object, and so copy all of its parent's memory."""
    shown = subprocess.check_output([sys.executable, "-c", FORK], cwd=TOOLS, text=True)
    assert int(shown) > 50_000
