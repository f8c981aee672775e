"""A run of two processes whose ends are late: the first one's own, and a thread of the second's."""

import threading
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import distributed

PATIENCE = 60  # seconds
HELD = 5  # seconds, in which a tool that does not wait would be ending


class Held:
    """Keeps the thread that releases it, which must find Python alive at each of its steps."""

    def __init__(self, released: threading.Event) -> None:
        self.released = released

    def __del__(self) -> None:
        self.released.set()
        for _ in range(100 * HELD):
            time.sleep(0.01)


@HOOKS.register_module()
class LateHook(Hook):
    """At the end of the training gloo releases a tensor of the second process, and takes long.

    The first process takes a second more.
    """

    def after_train(self, runner: Runner) -> None:
        tensor: Any = torch.zeros(1)
        if runner.rank == 0:
            distributed.recv(tensor, 1)
            distributed.all_reduce(tensor)
            time.sleep(1)
            return
        tensor.held = Held(released := threading.Event())
        reducing = distributed.all_reduce(tensor, async_op=True)
        del tensor, reducing  # only gloo has it
        distributed.send(torch.zeros(1), 0)
        assert released.wait(PATIENCE)
