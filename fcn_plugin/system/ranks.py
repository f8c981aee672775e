"""Let one process work for all, on each machine or in the whole run."""

import os
from collections.abc import Callable

from mmengine import dist

from fcn_plugin.errors import UserError


def once_per_machine(work: Callable[[], object]) -> None:
    """Call ``work`` in one process of each machine; the others wait until it is done."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        work()
    dist.barrier()


def on_first_process(work: Callable[[], object]) -> None:
    """Call ``work`` in the first process; if it fails, all processes fail, and none waits.

    Raises:
        UserError: in the other processes, with the message of the first one's error.
    """
    failure: Exception | None = None
    if dist.is_main_process():
        try:
            work()
        except Exception as error:
            failure = error
    message = [None if failure is None else str(failure) or type(failure).__name__]
    dist.broadcast_object_list(message)
    if failure is not None:
        raise failure
    if message[0] is not None:
        raise UserError(message[0])
