"""Errors of the libraries that a user can put right, each in one line."""

import errno
import os
import signal
import time

import pytest
from tools.running import as_module
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


GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] "
ERRORS = {
    "closed": (RuntimeError(GLOO + "Connection closed by peer [127.0.0.1]:1"), "another process"),
    "reset": (RuntimeError(GLOO + "Read error [127.0.0.1]:1: Connection reset by peer"), "another"),
    "broken pipe": (RuntimeError(GLOO + "writev [127.0.0.1]:1: Broken pipe"), "another process"),
    "descriptors": (RuntimeError("received 0 items of ancdata"), "ulimit -n"),
    "open files": (RuntimeError("Too many open files. Communication with the"), "ulimit -n"),
    "full disk": (OSError(errno.ENOSPC, "No space left on device", "a.png"), "a.png: the disk"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_one_line(name):
    error, words = ERRORS[name]
    with as_module("common") as common:
        line = common.explain(error)
    assert words in line and len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("dataset", "words"), [(Asleep(), "dataloader.timeout"), (Killed(), "num_workers")]
)
def test_a_loader_whose_worker_gives_nothing(dataset, words):
    loader = DataLoader(dataset, num_workers=1, timeout=1 if type(dataset) is Asleep else 60)
    with pytest.raises(RuntimeError) as error:
        next(iter(loader))
    with as_module("common") as common:
        line = common.explain(error.value)
    assert words in line and len(line.splitlines()) == 1
