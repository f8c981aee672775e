"""Work by several processes: in order, all errors passed on, nobody left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from tools.running import REPOSITORY

from fcn_plugin.errors import UserError
from fcn_plugin.system.workers import on_all_cores


def square(number: int) -> tuple[int, np.ndarray]:
    return number * number, np.full(2, os.getpid())


def fail_at_7(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


@pytest.mark.parametrize(
    ("count", "jobs", "workers"), [(0, None, 0), (1, 5, 0), (40, 1, 0), (40, 5, 5)]
)
def test_results_come_in_order_and_as_they_are(count, jobs, workers):
    """More processes than cores are nothing to warn of, and no random number is drawn."""
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = list(on_all_cores(square, range(count), chunk=3, jobs=jobs))
    assert [result[0] for result in results] == [n * n for n in range(count)]
    assert all(type(result) is tuple and type(result[1]) is np.ndarray for result in results)
    assert len({int(result[1][0]) for result in results} - {os.getpid()}) == workers
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_is_passed_on_after_the_results_before_it():
    results = on_all_cores(fail_at_7, range(40), chunk=3, jobs=2)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match=r"^seven$"):
        next(results)
    assert multiprocessing.active_children() == []


def be_killed_at_7(number: int) -> int:
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_killed_worker_is_an_error_and_the_others_end():
    with pytest.raises(UserError, match="a worker was killed from outside"):
        list(on_all_cores(be_killed_at_7, range(40), chunk=3, jobs=2))
    assert multiprocessing.active_children() == []


def test_who_stops_listening_is_not_kept_waiting():
    began = time.monotonic()
    results = on_all_cores(time.sleep, [0.02] * 2000, chunk=1, jobs=2)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < 10  # all would take forty


START = """
import os, time
import cv2, numpy as np
from fcn_plugin.system.workers import on_all_cores
"""


def script(folder, code: str) -> subprocess.Popen:
    path = folder / "script.py"
    path.write_text(START + code)
    environment = os.environ | dict(PYTHONPATH=str(REPOSITORY), TMPDIR=str(folder))
    command = [sys.executable, path]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


LONG = """
def work(_):
    os.write(1, f"{os.getpid()}\\n".encode())  # in one piece, between those of the others
    time.sleep(60)

if __name__ == "__main__":
    list(on_all_cores(work, range(1000), chunk=1, jobs=3))
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    """Else they would wait for work for ever, with all locks that they inherited."""
    parent = script(tmp_path, LONG)
    assert parent.stdout is not None
    workers: set[int] = set()
    while len(workers) < 3:
        workers.add(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate(timeout=10)  # until nobody holds the other end of its output
    assert [entry.name for entry in tmp_path.iterdir()] == ["script.py"]


OPENCV = """
BIG = np.zeros((2000, 2000, 3), np.uint8)

def work(_):
    return cv2.cvtColor(BIG, cv2.COLOR_RGB2BGR).shape

if __name__ == "__main__":
    cv2.setNumThreads(2)
    cv2.GaussianBlur(BIG, (9, 9), 2)  # starts OpenCV's threads
    print(set(on_all_cores(work, range(8), chunk=1, jobs=2)), cv2.getNumThreads())
"""


def test_workers_may_use_opencv_after_their_parent_did(tmp_path):
    assert script(tmp_path, OPENCV).communicate(timeout=60)[0] == "{(2000, 2000, 3)} 2\n"
