"""A run of two processes whose ends are late: the first one's own, and a thread of the second's."""

import threading
import time
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import distributed

from fcn_plugin.errors import UserError

PATIENCE = 60  # seconds


class Held:
    """Keeps the thread that releases it until the group has been left, and half a second more."""

    def __init__(self, released: threading.Event) -> None:
        self.released = released

    def __del__(self) -> None:
        self.released.set()
        while distributed.is_initialized():
            time.sleep(0.01)
        time.sleep(0.5)


@HOOKS.register_module()
class LateHook(Hook):
    """At the end of the training, gloo releases a tensor of the second process, and takes long.

    Then the second process fails, if it ``fails``, and the first one takes a second more.
    """

    def __init__(self, fails: bool) -> None:
        self.fails = fails

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
        if self.fails:
            raise UserError("cat.jpg: is damaged; copy it again")
