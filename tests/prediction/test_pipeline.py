"""Reading ahead and writing behind: what waits is bounded, and order and errors are kept."""

import errno
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.prediction.pipeline import WRITING, Pipeline
from fcn_plugin.system.memory import PIXEL, SMALL

SIDE = 100  # pixels of a usual picture
ROOM = 2**22  # bytes; of 8 usual pictures ahead, and of 10 to be written


class Reader:
    """Makes pictures of the sides that it is given, by name, and counts those that exist."""

    tells_size = True

    def __init__(self, sides: list[int], busy=lambda: 0) -> None:
        self.sides, self.busy = sides, busy
        self.files = [(Path(str(i)), Path(f"{i}.png")) for i in range(len(sides))]
        self.started: list[int] = []  # in the order of reading
        self.beside: dict[int, int] = {}  # picture -> what was under way when it was decoded

    def check_size(self, path, size) -> None:
        number = int(Path(path).stem)
        self.started.append(number)
        self.beside[number] = self.busy()

    def __call__(self, file: Path) -> SimpleNamespace:
        side = self.sides[int(file.stem)]
        if side == 0:
            raise UserError(f"{file}: damaged")
        self.check_size(file, (side, side))
        small = np.zeros((side, side, 0), np.uint8)
        return SimpleNamespace(image=small, nbytes=PIXEL * side**2 // 2)


def test_order_is_kept_and_an_error_comes_in_its_turn():
    reader = Reader([SIDE, SIDE, 0, SIDE, 2 * SIDE])
    with Pipeline(ROOM) as pipeline:
        for number, (name, file, outcome) in enumerate(pipeline.read(reader.files, reader)):
            assert (str(name), file.stem) == (str(number), str(number))
            assert isinstance(outcome, UserError) == (number == 2)
    assert number == 4 and pipeline.ahead == 0


@pytest.mark.parametrize(("most", "count"), [(ROOM, 3), (5 * PIXEL * SIDE**2, 2)])
def test_a_slow_network_has_a_bounded_number_of_pictures_ahead(most, count):
    """Bounded by the number, or by the bytes in half the room."""
    reader, most_ahead = Reader([SIDE] * 12), 0
    with Pipeline(most, number=3) as pipeline:
        for done, _ in enumerate(pipeline.read(reader.files, reader)):
            time.sleep(0.02)  # the network
            most_ahead = max(most_ahead, len(reader.started) - (done + 1))
            assert pipeline.ahead <= most // 2
    assert most_ahead == count and reader.started == list(range(12))


@pytest.mark.parametrize(("most", "count"), [(ROOM, 3), (5 * WRITING * SIDE**2, 2)])
def test_a_slow_writer_has_a_bounded_number_of_results_behind(most, count):
    unwritten, most_behind, lock = 0, 0, threading.Lock()

    def job() -> None:
        nonlocal unwritten
        time.sleep(0.01)
        with lock:
            unwritten -= 1

    with Pipeline(most, number=3, writers=2) as pipeline:
        for _ in range(20):
            pipeline.write(job, SIDE**2)
            with lock:
                unwritten += 1
                most_behind = max(most_behind, unwritten)
            assert pipeline.behind <= most // 2
    assert most_behind == count and unwritten == 0


def test_a_large_picture_is_read_and_written_alone():
    large = round(SMALL**0.5) + 1
    network, writing = threading.Event(), threading.Event()
    reader = Reader([SIDE, large, SIDE, SIDE], lambda: network.is_set() + writing.is_set())
    written_in = {}

    def job(number: int) -> None:
        writing.set()
        written_in[number] = threading.current_thread()
        time.sleep(0.02)
        writing.clear()

    with Pipeline(2**25) as pipeline:
        for number, (*_, picture) in enumerate(pipeline.read(reader.files, reader)):
            network.set()
            time.sleep(0.02)
            network.clear()
            pixels = picture.image.shape[0] ** 2
            pipeline.write(lambda number=number: job(number), pixels)
    assert reader.beside[1] == 0
    assert [thread is threading.main_thread() for thread in written_in.values()] == [
        number == 1 for number in written_in
    ]


def test_on_a_gpu_large_pictures_are_read_beside_the_network():
    side = round(SMALL**0.5) + 1
    for on_gpu, most_ahead in ((False, 0), (True, 3)):
        reader, ahead = Reader([side] * 6), []
        with Pipeline(2**28, on_gpu=on_gpu) as pipeline:
            for done, _ in enumerate(pipeline.read(reader.files, reader)):
                time.sleep(0.02)  # the network
                ahead.append(len(reader.started) - (done + 1))
        assert max(ahead) == most_ahead


def test_a_loader_that_tells_no_size_reads_in_turn():
    reader = Reader([SIDE] * 4)
    reader.tells_size = False
    with Pipeline(ROOM) as pipeline:
        for number, _ in enumerate(pipeline.read(reader.files, reader)):
            time.sleep(0.02)
            assert reader.started == list(range(number + 1))


def test_the_first_failure_of_writing_is_raised_and_no_thread_is_left():
    """A full disk: jobs before it are done, and its error wins over what fails meanwhile."""
    written, before = [], threading.active_count()

    def job(number: int) -> None:
        time.sleep(0.01)
        if number in (3, 5):
            raise OSError(errno.ENOSPC, "full", f"{number}.png")
        written.append(number)

    reader = Reader([SIDE] * 50)
    with pytest.raises(OSError) as fault, Pipeline(ROOM, writers=1) as pipeline:
        for number, _ in enumerate(pipeline.read(reader.files, reader)):
            pipeline.write(lambda number=number: job(number), SIDE**2)
    assert fault.value.filename == "3.png" and written[:3] == [0, 1, 2] and number < 12
    with pytest.raises(OSError) as fault, Pipeline(ROOM) as pipeline:
        pipeline.write(lambda: job(3), SIDE**2)
        raise UserError("the network")
    assert fault.value.filename == "3.png"
    _wait_until(lambda: threading.active_count() == before)


def test_an_interrupt_ends_at_once():
    """What waits is dropped, what is being written becomes whole, and the reader ends."""
    before, gate, written = threading.active_count(), threading.Event(), []
    reader = Reader([SIDE] * 20)

    def job() -> None:
        gate.wait(60)
        written.append(1)

    with pytest.raises(KeyboardInterrupt), Pipeline(ROOM, number=4) as pipeline:
        for number, _ in enumerate(pipeline.read(reader.files, reader)):
            pipeline.write(job, SIDE**2)
            if number == 3:
                raise KeyboardInterrupt
    assert not written
    gate.set()
    _wait_until(lambda: threading.active_count() == before)
    assert written == [1] and len(reader.started) < 20


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
