"""One network in all processes when it is scored."""

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS


@HOOKS.register_module()
class SameBuffersHook(Hook):
    """Before a validation every process takes the buffers of the first, which checkpoints hold.

    Without SyncBN the running statistics of each process are those of its own images: the scores
    would be of several networks, and others once a run has been resumed.
    """

    def before_val(self, runner: Runner) -> None:
        for buffer in runner.model.buffers():
            broadcast(buffer)
