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
from multiprocessing import Pipe

import pytest
from tools.running import TOOLS, as_module
from torch.utils.data import DataLoader

from fcn_plugin.system.machine import threads_of


def error_of(work: Callable[[], object], timeout: float = 60) -> Exception:
    """Of a loader whose worker does this."""
    with pytest.raises((RuntimeError, ValueError)) as error:
        next(iter(DataLoader([0], num_workers=1, timeout=timeout, collate_fn=lambda _: work())))
    return error.value


# What is raised, and words of the line that says what to do.
ERRORS = {
    "[gloo/transport/tcp/pair.cc:534] Read error: Connection reset by peer": "another process",
    "Gloo connectFullMesh failed with [pair.h:311] Connect timeout [none]": "MASTER_ADDR",
    "ifa != nullptr. Unable to find address for: eth9": "IFNAME: Unable to find address for: eth9;",
    "Timed out waiting 600000ms": "env_cfg.dist_cfg.timeout",
    "received 0 items of ancdata": "ulimit -n",
    "The server socket has failed to listen on any address. ... EADDRINUSE": "MASTER_PORT=29501",
    "CUDA out of memory. Tried to allocate 2.00 GiB.": "--batch auto",
    "end should be larger than begin, but got begin=200, end=150": "a shorter warm-up",
    "Cannot infer the rule for key mDice": "key mDice; set rule=",
}


def test_one_line_says_what_to_do():
    errors = [(RuntimeError(text), words) for text, words in ERRORS.items()]
    errors.append((OSError(errno.ENOSPC, "No space left", "a.png"), "a.png: the disk"))
    errors.append((error_of(partial(time.sleep, 60), timeout=1), "dataloader.timeout"))
    errors.append((error_of(lambda: os.kill(os.getpid(), signal.SIGKILL)), "num_workers"))
    errors.append((error_of(lambda: os.kill(os.getpid(), signal.SIGBUS)), "shared memory"))
    with as_module("common") as common:
        assert common.explain(error_of(partial(time.sleep, -1))) is None
        for error, words in errors:
            line = common.explain(error)
            assert words in line and len(line.splitlines()) == 1


def test_a_worker_killed_while_it_hands_over_a_batch_is_not_another_process():
    ours, its = Pipe()
    its.close()
    for exchange in (ours.recv, partial(ours.send, 0)):
        with pytest.raises((EOFError, OSError)) as error:
            exchange()
        with as_module("common") as common:
            assert "num_workers" in common.explain(error.value)


WAITING, COUNTS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"), ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
WAITS = ["PASSIVE", "0"]
PROCESSES = ("LOCAL_WORLD_SIZE", "LOCAL_RANK")


def environment(**chosen: str) -> tuple[list[str | None], str]:
    """What of a tool's environment is about threads, and the line that says so."""
    show = f"import common, json, os; print(json.dumps([*map(os.environ.get, {WAITING + COUNTS})]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{show}; common.say_threads(); common.say_threads()"],
        env={name: os.environ[name] for name in os.environ.keys() - {*WAITING, *COUNTS, *PROCESSES}}
        | chosen,
        cwd=TOOLS,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


def test_waiting_threads_sleep_unless_the_user_has_chosen():
    assert environment()[0][:2] == ["PASSIVE", "0"]
    assert environment(OMP_WAIT_POLICY="ACTIVE")[0][:2] == ["ACTIVE", None]
    assert environment(GOMP_SPINCOUNT="1000")[0][:2] == [None, "1000"]


def test_torch_asks_for_large_pages_unless_the_user_has_chosen():
    show = "import common, os; print(os.environ['THP_MEM_ALLOC_ENABLE'])"
    for chosen, expected in ({}, "1"), ({"THP_MEM_ALLOC_ENABLE": "0"}, "0"):
        others = {name: value for name, value in os.environ.items() if not name.startswith("THP")}
        command = [sys.executable, "-c", show]
        shown = subprocess.check_output(command, env=others | chosen, cwd=TOOLS, text=True)
        assert shown.strip() == expected


def test_the_number_of_threads_is_said_once_unless_the_user_has_chosen():
    count = str(threads_of(2)[0])
    line = f"threads: {count} in each of 2 processes, since "
    (_, _, *counts), said = environment(LOCAL_WORLD_SIZE="2")
    assert counts == [count, count] and said.startswith(line) and said.count("\n") == 1
    assert environment(LOCAL_WORLD_SIZE="2", LOCAL_RANK="1") == ([*WAITS, count, count], "")
    chosen = dict(LOCAL_WORLD_SIZE="2", OMP_NUM_THREADS="7")
    assert environment(**chosen) == ([*WAITS, "7", "7"], "")
    assert environment(**chosen, MKL_NUM_THREADS="3") == ([*WAITS, "7", "3"], "")


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
