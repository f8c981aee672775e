"""Cores by affinity, by quotas of control groups, and by Slurm; threads of several processes."""

import os

import pytest

from fcn_plugin.system import machine
from fcn_plugin.system.machine import available_cores, threads_of

# The process's control groups, files below their mount -> available cores of 16.
ONE, TWO = "4:memory:/other\n3:cpu,cpuacct:/docker/a\n0::/\n", "0::/docker/a\n"
QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"
QUOTAS = {
    "version 2": (TWO, {"docker/a/cpu.max": "200000 100000\n"}, 2),
    "of a group above": (
        TWO,
        {"docker/cpu.max": "50000 10000", "docker/a/cpu.max": "max 10000"},
        5,
    ),
    "the lowest": (TWO, {"cpu.max": "90000 10000", "docker/a/cpu.max": "120000 10000"}, 9),
    "a part of a core": (TWO, {"docker/a/cpu.max": "150000 100000"}, 2),
    "less than a core": (TWO, {"docker/a/cpu.max": "5000 100000"}, 1),
    "more than there are": (TWO, {"docker/a/cpu.max": "6400000 100000"}, 16),
    "none in version 2": (TWO, {"docker/a/cpu.max": "max 100000\n"}, 16),
    "the host's path in a container": (TWO, {"cpu.max": "300000 100000\n"}, 3),
    "version 1": (
        ONE,
        {f"cpu/docker/a/{QUOTA}": "75000\n", f"cpu/docker/a/{PERIOD}": "25000\n"},
        3,
    ),
    "none in version 1": (ONE, {f"cpu/{QUOTA}": "-1\n", f"cpu/{PERIOD}": "100000\n"}, 16),
    "of another kind": (ONE, {f"cpu/other/{QUOTA}": "50000", f"cpu/other/{PERIOD}": "50000"}, 16),
    "no control groups": (None, {}, 16),
}


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch, tmp_path):
    """A machine of 16 cores without hyperthreads, with the files of the system in ``tmp_path``."""
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    for name in ("GROUPS", "GROUP_FILES", "TOPOLOGY"):
        monkeypatch.setattr(machine, name, tmp_path / name)


def put(files, folder):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("case", QUOTAS)
def test_quota_of_control_groups(case, tmp_path):
    groups, files, cores = QUOTAS[case]
    put({"GROUPS": groups} if groups else {}, tmp_path)
    put(files, tmp_path / "GROUP_FILES")
    assert available_cores() == cores
    threads, reason = threads_of(1)
    assert threads == cores and reason.startswith("a quota allows" if cores < 16 else "")
    assert bool(reason) == (cores < 16)


def test_the_lowest_limit_is_the_reason(monkeypatch, tmp_path):
    put({"GROUPS": TWO, "GROUP_FILES/cpu.max": "450000 100000"}, tmp_path)
    assert threads_of(1) == (5, "a quota allows 4.5 of 16 cores")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    assert threads_of(1) == (4, "Slurm gives a task 4 of 16 cores") and available_cores() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 7})
    assert threads_of(1) == (2, "the process is bound to 2 of 16 cores") and available_cores() == 2


def test_several_processes_divide_the_cores(monkeypatch):
    each = [threads_of(processes)[0] for processes in (1, 2, 3, 16, 40)]
    assert each == [16, 8, 5, 1, 1]
    assert threads_of(1)[1] == "" and threads_of(2)[1] == "this machine has 16 cores"


def test_hyperthreads_of_a_core_share_a_thread(monkeypatch, tmp_path):
    """Processor n and n + 8 are of one core."""
    names = (f"TOPOLOGY/cpu{n}/topology/thread_siblings_list" for n in range(16))
    put({name: f"{n % 8},{n % 8 + 8}\n" for n, name in enumerate(names)}, tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 8, 1, 9, 2})
    assert threads_of(1) == (3, "the process is bound to 3 of 8 cores")
    assert available_cores() == 5


def test_a_system_without_affinity(monkeypatch):
    """macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores() == 16 and threads_of(4) == (4, "this machine has 16 cores")
