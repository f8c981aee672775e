"""Work by several processes: in order, all errors passed on, nobody left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from tools.running import REPOSITORY

from fcn_plugin.system.machine import available_cores
from fcn_plugin.system.workers import on_all_cores


def square(number: int) -> int:
    return number * number


def process(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def fail_at_7(number: int) -> int:
    if number == 7:
        raise ValueError("seven")
    return number


@pytest.mark.parametrize("jobs", [None, 1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_results_come_in_order(jobs, count):
    numbers = list(range(count))
    assert list(on_all_cores(square, numbers, chunk=3, jobs=jobs)) == [n * n for n in numbers]


def test_several_processes_take_part():
    others = set(on_all_cores(process, range(40), chunk=2, jobs=2))
    assert len(others) == 2 and os.getpid() not in others
    assert set(on_all_cores(process, range(40), chunk=100, jobs=2)) == {os.getpid()}


def test_an_error_is_passed_on():
    with pytest.raises(ValueError, match="seven"):
        list(on_all_cores(fail_at_7, range(40), chunk=2, jobs=2))


def test_who_stops_listening_is_not_kept_waiting():
    began = time.monotonic()
    results = on_all_cores(time.sleep, [0.02] * 2000, chunk=1, jobs=2)
    next(results)
    results.close()
    assert time.monotonic() - began < 10  # all would take twenty


def test_an_interrupt_while_work_is_handed_out(monkeypatch):
    """Otherwise all that was handed out would be done first."""
    handed_out = []
    submit = ProcessPoolExecutor.submit

    def interrupted(*arguments, **named):
        handed_out.append(1)
        if len(handed_out) == 500:
            raise KeyboardInterrupt
        return submit(*arguments, **named)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        on_all_cores(time.sleep, [0.05] * 1000, chunk=1, jobs=2)
    assert time.monotonic() - began < 8  # 500 would take twelve
    assert multiprocessing.active_children() == []


def test_at_least_one_core():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_who_never_asks_for_results_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = on_all_cores(process, range(400), chunk=2, jobs=2)
    assert len(list(tmp_path.iterdir())) == 1
    del results
    assert multiprocessing.active_children() == [] and not any(tmp_path.iterdir())


SCRIPT = r"""
import os, sys, time
from fcn_plugin.system.workers import on_all_cores

def work(_):
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece, between those of the others
    time.sleep(0.2)

if __name__ == "__main__":
    list(on_all_cores(work, range(1000), chunk=1, jobs=3))
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    """Else they would wait for work for ever, with all locks that they inherited."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = os.environ | dict(PYTHONPATH=str(REPOSITORY), TMPDIR=str(tmp_path))
    parent = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    workers: set[int] = set()
    while len(workers) < 3:
        workers.add(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while alive := {pid for pid in workers if _is_alive(pid)}:
        assert time.monotonic() < deadline, alive
        time.sleep(0.05)
    assert [entry.name for entry in tmp_path.iterdir()] == ["script.py"]


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


OPENCV = """
import cv2, numpy as np
from fcn_plugin.system.workers import on_all_cores

BIG = np.zeros((2000, 2000, 3), np.uint8)

def work(_):
    return cv2.cvtColor(BIG, cv2.COLOR_RGB2BGR).shape, cv2.getNumThreads()

if __name__ == "__main__":
    cv2.setNumThreads(2)
    cv2.GaussianBlur(BIG, (9, 9), 2)  # starts OpenCV's threads
    assert {shape for shape, _ in on_all_cores(work, range(8), chunk=1, jobs=2)} == {BIG.shape}
    assert cv2.getNumThreads() == 2
"""


def test_workers_may_use_opencv_after_their_parent_did(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(OPENCV)
    environment = os.environ | dict(PYTHONPATH=str(REPOSITORY))
    done = subprocess.run(
        [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


KILLED = """
import multiprocessing, sys, time
from threading import Timer
from fcn_plugin.errors import UserError
from fcn_plugin.system.workers import on_all_cores

def work(_):
    return bytes(2**20)

def kill():
    for worker in multiprocessing.active_children()[: int(sys.argv[1])]:
        worker.kill()

if __name__ == "__main__":
    for turn in range(8):
        results = on_all_cores(work, range(2_000), chunk=8, jobs=2)
        Timer(turn / 50, kill).start()
        try:
            sum(1 for _ in results)
        except UserError as error:
            print(str(error)[:19])
"""


@pytest.mark.parametrize("killed", [1, 2])
def test_a_worker_that_is_killed_while_it_hands_over_a_result(killed, tmp_path):
    """The pool would wait for the rest of it: without a file between, half of these turns."""
    path = tmp_path / "script.py"
    path.write_text(KILLED)
    done = subprocess.run(
        [sys.executable, str(path), str(killed)],
        env=os.environ | dict(PYTHONPATH=str(REPOSITORY), TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["a worker was killed"] * 8, done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["script.py"]
