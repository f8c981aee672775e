"""A data loader's workers share the memory of the process that starts them."""

import subprocess
import sys

import pytest
from tools.running import TOOLS

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
def test_collecting_garbage_copies_nothing(how):
    """30 MiB of lists are copied otherwise, since the collector writes into each."""
    command = [sys.executable, "-c", FORK, TOOLS, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    copied = int(done.stdout)
    assert copied < 5 if how == "shared" else copied > 20
