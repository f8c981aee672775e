"""Work that one process of a machine does for all of them."""

import os
from collections.abc import Callable

from mmengine import dist


def once_per_machine(work: Callable[[], object]) -> None:
    """Call ``work`` in one process of each machine; the others wait until it is done."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        work()
    dist.barrier()
