"""One process of a machine works, all go on together.

A failure that all share is in tools/test_submission.py.
"""

from mmengine import dist

from fcn_plugin.system.ranks import once_per_machine


def test_one_process_works_and_the_others_wait(monkeypatch):
    done = []
    monkeypatch.setattr(dist, "barrier", lambda: done.append("barrier"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    once_per_machine(lambda: done.append("alone"))
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        once_per_machine(lambda rank=rank: done.append(rank))
    assert done == ["alone", "barrier", "0", "barrier", "barrier"]
