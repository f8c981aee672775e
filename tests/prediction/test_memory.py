"""Free memory by what the system tells, and needed memory by counting."""

import pytest
import torch

from fcn_plugin.errors import UserError
from fcn_plugin.prediction import memory as needed
from fcn_plugin.prediction.memory import Budget, Cost, TensorBytes
from fcn_plugin.system import memory
from fcn_plugin.system.memory import Memory, check_picture, free_memory

MIB = 2**20


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 1,000 MiB free, on which this process has 100 and has had 150."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "proc/self").mkdir(parents=True)
    for name, text in (
        ("meminfo", f"MemTotal: 9 kB\nMemAvailable:  {1000 * 1024} kB\n"),
        ("self/cgroup", "3:cpuset:/\n0::/slice/job\n"),
        ("self/statm", f"9 {100 * MIB // memory.PAGESIZE} 9 9\n"),
        ("self/status", f"Name: a\nVmHWM:  {150 * 1024} kB\n"),
    ):
        (tmp_path / "proc" / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("group", ["slice/job", ""])
def test_free_memory_of_the_machine_and_of_any_group_above(system, group):
    assert free_memory() == 1000 * MIB
    folder = system / "cgroup" / group
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{500 * MIB}\n")
    (folder / "memory.current").write_text(f"{300 * MIB}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {100 * MIB}\n")
    assert free_memory() == 300 * MIB
    (folder / "memory.max").write_text("max\n")
    assert free_memory() == 1000 * MIB


def test_a_limit_is_of_the_whole_process(system, monkeypatch):
    found = Memory.of_process()
    assert found == (100 * MIB, 1000 * MIB, 150 * MIB)
    assert found.left(300 * MIB) == 200 * MIB
    assert found.left(9000 * MIB) == found.left(None) == 1000 * MIB
    monkeypatch.setattr(memory, "PROC", system)  # where the system does not tell
    assert Memory.of_process() == (memory.UNKNOWN_USED, memory.UNKNOWN_FREE, 0)


def test_a_picture_beyond_the_memory_is_refused_with_what_would_do(system):
    size = 10000, 9000
    check_picture("a.png", (2000, 2000), limit=1)  # asks nobody
    check_picture("a.png", size, limit=None)
    with pytest.raises(UserError, match=r"a\.png: .* 10000x9000 .* give --max-memory 1100MB"):
        check_picture("a.png", size, limit=10**9)
    check_picture("a.png", size, limit=1100 * 10**6)
    with pytest.raises(UserError, match=r"a\.png: .* 10000x9000 .* 1\.0 GB are free"):
        check_picture("a.png", size, more=lambda: 900 * 10**6)


def test_tensors_made_and_dropped_are_counted():
    given = torch.zeros(1000)
    with TensorBytes() as tensors:
        view = given[:500]
        a = view + 1  # 2,000 bytes
        b = torch.cat((a, a))  # 4,000
        del a
        c = b.reshape(2, 500) * 2  # 4,000, and 4,000 of b
        b.add_(1)
    assert (tensors.peak, tensors.largest) == (8000, 1000)
    assert c.shape == (2, 500)


def measured(peak, most=1e15) -> tuple[Cost, list[int]]:
    """The cost of a network of which a square takes ``peak(side)``, and the sides measured."""
    sides = []

    def run(side):
        sides.append(side)
        tensors = TensorBytes()
        tensors.peak, tensors.largest = peak(side), 16 * side**2
        return tensors

    return Cost.measured(run, most), sides


@pytest.mark.parametrize(
    ("peak", "largest"),
    [
        (lambda side: 100 * side**2, 256),
        (lambda side: 100 * side**4, 2048),
        (lambda side: 1000 * side**2 + side**4, 2048),
    ],
    ids=["by pixels", "attention", "both"],
)
def test_the_largest_square_is_within_what_is_allowed(peak, largest):
    most = peak(3000)
    cost, sides = measured(peak, most)
    high, wide = cost.window(10**5, 10**5, cost.area_within(most))
    assert high == wide and 2800 < high <= 3000
    assert max(sides) == largest and len(set(sides)) == len(sides)
    assert cost.window(9, 9, cost.area_within(-5)) == (0, 0)


def test_padding_counts_and_elements_are_countable_by_the_networks_own_width():
    cost, _ = measured(lambda side: 10 * (side + 200) ** 2)
    assert cost.border == pytest.approx(200)
    assert cost.bytes(1, 30000) == pytest.approx(10 * 201 * 30200)
    cost, _ = measured(lambda side: 100 * side**2)
    assert 16 * cost.area_within(1e15) == pytest.approx(2**31, rel=0.01)


@pytest.mark.parametrize(
    ("image", "window"),
    [((30000, 1), (29000, 1)), ((700, 43000), (700, 1270)), ((5500, 5500), (943, 943))],
)
def test_windows_have_the_area_that_is_allowed_and_a_shape_that_suits(image, window):
    cost, _ = measured(lambda side: 150 * side**2)
    area = cost.area(*window)
    found = cost.window(*image, area)
    assert found == pytest.approx(window, abs=2)
    assert cost.area(*found) <= area


def test_what_is_needed_is_enough_and_not_much_less(monkeypatch):
    run = lambda side, scored: torch.zeros(side, side) + 1  # noqa: E731
    budget = Budget(torch.nn.Linear(3000, 3000), run, torch.device("cpu"), None)
    least, need = budget.cost(False).area(500, 500), budget.need(500)
    for free, enough in ((need, True), (0.99 * need, False)):
        monkeypatch.setattr(needed, "memory_of", lambda device, free=free: Memory(0, free, 0))
        assert (budget.cost(False).area_within(budget.left()) >= least) == enough
