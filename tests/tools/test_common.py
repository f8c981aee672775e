"""What all tools share: an error in one line, and how threads and workers treat the machine."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tools.running import TOOLS, as_module
from torch.utils.data import DataLoader, Dataset


class Asleep(Dataset):
    """Its worker gives nothing, as one does not that may open no more files."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        time.sleep(60)
        return index


class Killed(Asleep):
    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


class Unknown(Asleep):
    def __getitem__(self, index: int) -> int:
        raise RuntimeError("what nobody knows")


def error_of(dataset: Dataset, timeout: float) -> Exception:
    with pytest.raises(RuntimeError) as error:
        next(iter(DataLoader(dataset, num_workers=1, timeout=timeout)))
    return error.value


GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] "
# What is raised, and words of the line that says what to do.
ERRORS = {
    GLOO + "Connection closed by peer [127.0.0.1]:1": "another process",
    GLOO + "Read error: Connection reset by peer": "another process",
    GLOO + "writev [127.0.0.1]:1: Broken pipe": "another process",
    "Timed out waiting 600000ms": "env_cfg.dist_cfg.timeout",
    "received 0 items of ancdata": "ulimit -n",
    "Too many open files. Communication": "ulimit -n",
    "Cannot infer the rule for key mDice": "key mDice; set rule=",
}


def test_one_line_says_what_to_do():
    errors = [(RuntimeError(text), words) for text, words in ERRORS.items()]
    errors.append((OSError(errno.ENOSPC, "No space left", "a.png"), "a.png: the disk"))
    errors.append((error_of(Asleep(), 1), "dataloader.timeout"))
    errors.append((error_of(Killed(), 60), "num_workers"))
    with as_module("common") as common:
        assert common.explain(error_of(Unknown(), 60)) is None
        for error, words in errors:
            line = common.explain(error)
            assert words in line and len(line.splitlines()) == 1


NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SHOW = f"import json, os, sys; print(json.dumps([*map(os.environ.get, {NAMES})]))"
COMMANDS = {
    "a tool": [sys.executable, "-c", f"import common; {SHOW}"],
    # In place of the Python that make would set up, one that shows its environment.
    "make": ["make", "-s", "-C", "..", "lint", "READY=", f'RUN={sys.executable} -c "{SHOW}" #'],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_waiting_threads_sleep_unless_the_user_has_chosen(command):
    unset = {name: value for name, value in os.environ.items() if name not in NAMES}
    for chosen, expected in (
        ({}, ["PASSIVE", "0"]),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, ["ACTIVE", None]),
        ({"GOMP_SPINCOUNT": "1000"}, [None, "1000"]),
    ):
        shown = subprocess.check_output(command, env=unset | chosen, cwd=TOOLS, text=True)
        assert json.loads(shown.splitlines()[0]) == expected


FORK = """
import gc, os, sys
sys.path.insert(0, sys.argv[1])
from common import share_memory_with_workers
if sys.argv[2] == "shared":
    share_memory_with_workers()
inherited = [[n] for n in range(500_000)]
process = os.fork()
if process == 0:
    def own():
        lines = open("/proc/self/smaps_rollup").read().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:"))
    before = own()
    gc.collect()
    print((own() - before) // 1024, flush=True)
    os._exit(0)
os.waitpid(process, 0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("how", ["shared", "not"])
def test_collecting_garbage_in_a_worker_copies_nothing(how):
    """30 MiB of lists are copied otherwise, since the collector writes into each."""
    command = [sys.executable, "-c", FORK, TOOLS, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    copied = int(done.stdout)
    assert copied < 5 if how == "shared" else copied > 20
