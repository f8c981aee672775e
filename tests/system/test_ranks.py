"""One process of a machine works, all go on together."""

import pytest
from mmengine import dist

from fcn_plugin.errors import UserError
from fcn_plugin.system.ranks import on_first_process, once_per_machine


def test_one_process_works_and_the_others_wait(monkeypatch):
    done = []
    monkeypatch.setattr(dist, "barrier", lambda: done.append("barrier"))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    once_per_machine(lambda: done.append("alone"))
    for rank in "01":
        monkeypatch.setenv("LOCAL_RANK", rank)
        once_per_machine(lambda rank=rank: done.append(rank))
    assert done == ["alone", "barrier", "0", "barrier", "barrier"]


def test_a_failure_of_the_first_process_is_one_of_all(monkeypatch):
    sent = []
    monkeypatch.setattr(dist, "broadcast_object_list", lambda data: sent.append(data[0]))
    on_first_process(lambda: None)
    for error in (KeyError("why"), OSError()):
        with pytest.raises(type(error)):
            on_first_process(lambda error=error: (_ for _ in ()).throw(error))
    assert sent == [None, "'why'", "OSError"]

    def receive(data: list) -> None:
        data[0] = "what went wrong there"

    monkeypatch.setattr(dist, "is_main_process", lambda: False)
    monkeypatch.setattr(dist, "broadcast_object_list", receive)
    with pytest.raises(UserError, match="what went wrong there"):
        on_first_process(lambda: sent.append("done here too"))
    assert len(sent) == 3
