"""Work that one process does for all, on a machine or in the whole run."""

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
    """Call ``work`` in the first process; if it fails, all fail, and none is left waiting.

    Raises:
        UserError: in the others, what the first one failed with.
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
