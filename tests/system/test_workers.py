"""Work by several processes: in order, all errors passed on, nobody left behind."""

import multiprocessing
import os
import signal
import time
import warnings

import cv2
import numpy as np
import pytest
import torch

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


def report_and_sleep(pipe: int) -> None:
    os.write(pipe, b".")
    time.sleep(60)


def test_workers_end_with_a_killed_parent():
    """Else they would wait for work for ever, with all locks that they inherited."""
    read, write = os.pipe()
    if (parent := os.fork()) == 0:
        try:
            list(on_all_cores(report_and_sleep, [write] * 1000, chunk=1, jobs=3))
        finally:
            os._exit(1)
    os.close(write)
    for _ in range(3):
        assert os.read(read, 1) == b"."
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    began = time.monotonic()
    assert os.read(read, 1) == b""  # when nobody holds the other end
    assert time.monotonic() - began < 10
    os.close(read)


def in_grey(picture: np.ndarray) -> tuple[int, ...]:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).shape


def test_workers_may_use_opencv_after_their_parent_did():
    picture, before = np.zeros((2000, 2000, 3), np.uint8), cv2.getNumThreads()
    cv2.setNumThreads(2)
    cv2.GaussianBlur(picture, (9, 9), 2)  # starts OpenCV's threads
    assert set(on_all_cores(in_grey, [picture] * 8, chunk=1, jobs=2)) == {(2000, 2000)}
    assert cv2.getNumThreads() == 2
    cv2.setNumThreads(before)
