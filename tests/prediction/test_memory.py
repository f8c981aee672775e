"""Free memory by what the system tells, and needed memory by counting."""

import pytest
import torch

from fcn_plugin.errors import UserError
from fcn_plugin.prediction.cost import Cost
from fcn_plugin.prediction.memory import TensorBytes
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
    with pytest.raises(UserError, match=r"a\.png: .* 10000x9000 .* 1\.0 GB are free"):
        check_picture("a.png", (10000, 9000), more=lambda: 900 * 10**6)
    monkeypatch.setattr(memory, "PROC", system)  # where the system does not tell
    assert Memory.of_process() == (memory.UNKNOWN_USED, memory.UNKNOWN_FREE, 0)


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


PEAKS = {
    "by pixels": lambda side: 150 * side**2,
    "padded": lambda side: 10 * (side + 200) ** 2,
    "attention": lambda side: 1000 * side**2 + side**4,
}


@pytest.mark.parametrize("name", PEAKS)
def test_the_largest_window_is_within_what_is_allowed(name):
    """Of any image, by what squares take; squares are measured as far as it needs."""
    peak, sides = PEAKS[name], []

    def run(side):
        sides.append(side)
        tensors = TensorBytes()
        tensors.peak, tensors.largest = peak(side), side**2
        return tensors

    most = peak(3000)
    cost = Cost.measured(run, most)
    assert sorted(sides) == [128, 256] + [512, 1024, 2048] * (name == "attention")
    area = cost.area_within(most)
    for image in ((10**5, 10**5), (2900, 10**5), (10**5, 2)):
        window = cost.window(*image, area)
        assert 0.99 * min(most, cost.bytes(*image)) < cost.bytes(*window) <= most
        # A square, or as near to one as the image lets it be.
        assert min(2800, *image) <= min(window) <= 3000
        assert image[0] != image[1] or window[0] == pytest.approx(window[1], abs=1)
    assert cost.window(9, 9, cost.area_within(-5)) == (0, 0)
    # Kernels count the elements of a tensor in 32 bits.
    assert name == "padded" or cost.area_within(1e30) == pytest.approx(2**31)
