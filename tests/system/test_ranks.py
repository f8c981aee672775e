"""One process of a machine works, all go on together."""

import pytest
from mmengine import dist

from fcn_plugin.system.ranks import once_per_machine


@pytest.mark.parametrize(
    ("rank", "calls"),
    [(None, ["work", "barrier"]), ("0", ["work", "barrier"]), ("1", ["barrier"])],
    ids=["alone", "first", "second"],
)
def test_one_process_works_and_the_others_wait(monkeypatch, rank, calls):
    done = []
    monkeypatch.setattr(dist, "barrier", lambda: done.append("barrier"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    once_per_machine(lambda: done.append("work"))
    assert done == calls
