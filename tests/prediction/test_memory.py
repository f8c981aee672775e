"""Free memory by what the system tells, and needed memory by counting."""

import pytest
import torch

from fcn_plugin.prediction import memory
from fcn_plugin.prediction.memory import TensorBytes, budget, free_memory, side_within

MIB = 2**20
CPU = torch.device("cpu")


def told(path, text) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 1,000 MiB free."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    told(tmp_path / "proc/meminfo", f"MemTotal: 9 kB\nMemAvailable:  {1000 * 1024} kB\n")
    told(tmp_path / "proc/self/cgroup", "5:memory:/job\n3:cpuset:/\n0::/slice/job\n")
    return tmp_path


def group(folder, names, limit, used, stat) -> None:
    for name, value in zip(names[:2], (limit, used), strict=True):
        told(folder / name, f"{value}\n")
    told(folder / "memory.stat", f"anon 5\n{names[2]} {stat}\n")


def test_of_the_machine(system):
    assert free_memory() == 1000 * MIB


@pytest.mark.parametrize("place", ["slice/job", "slice", ""])
def test_of_a_group_or_one_above_it(system, place):
    folder = system / "cgroup" / place
    group(folder, memory.CGROUP_2, 500 * MIB, 300 * MIB, 100 * MIB)
    assert free_memory() == 300 * MIB
    told(folder / "memory.max", "max\n")
    assert free_memory() == 1000 * MIB


def test_of_a_group_of_the_first_version(system):
    group(system / "cgroup/memory/job", memory.CGROUP_1, 500 * MIB, 300 * MIB, 0)
    assert free_memory() == 200 * MIB


def test_where_the_system_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert free_memory() == memory.UNKNOWN_FREE
    limit = memory.UNKNOWN_USED + 100 * MIB
    assert budget(CPU, limit) == int(memory.SHARE * 100 * MIB)


def test_a_limit_is_of_the_whole_process(system):
    told(system / "proc/self/statm", f"9 {100 * MIB // memory.PAGESIZE} 9 9\n")
    assert budget(CPU, 300 * MIB) == int(memory.SHARE * 200 * MIB)
    assert budget(CPU, 9000 * MIB) == budget(CPU, None) == int(memory.SHARE * 1000 * MIB)


def test_tensors_made_and_dropped_are_counted():
    given = torch.zeros(1000)
    with TensorBytes() as tensors:
        view = given[:500]
        a = view + 1  # 2,000 bytes
        b = torch.cat((a, a))  # 4,000
        del a
        c = b.reshape(2, 500) * 2  # 4,000, and 4,000 of b
        b.add_(1)
    assert tensors.peak == 8000
    assert c.shape == (2, 500)


@pytest.mark.parametrize("power", [2, 3, 4])
def test_the_largest_square(power):
    """Memory grows as the side squared, or faster; 1 % of what is allowed may be left."""
    measured = []

    def peak(side):
        measured.append(side)
        return 100 * side**power

    most = 100 * 3000**power
    assert side_within(peak, most) == pytest.approx(3000, abs=2)
    assert max(measured) == (256 if power == 2 else 2048)
    assert side_within(peak, 0) == side_within(peak, -5) == 0


def test_memory_that_begins_to_grow_faster_with_the_size():
    def peak(side):
        return 1000 * side**2 + side**4  # attention

    side = side_within(peak, peak(2500))
    assert 2300 < side <= 2500
