"""Write a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside ``target`` to write to; it takes the place of ``target`` if the block succeeds.

    Killed at any moment, ``target`` is as it was or as it is meant to be. What a killed process
    left in the path is overwritten by the next. The parents of ``target`` are made.

    >>> with replacing(Path("list.txt")) as part:
    ...     _ = part.write_text("one\\n")
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
