"""Lists of image names, and the two that are made of others'."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fcn_plugin.errors import UserError


def read_ids(path: Path) -> list[str]:
    """The names in a list, one a line; blank lines are left out."""
    if not path.is_file():
        raise UserError(f"{path}: no such list; unpack the data set again")
    # Without a byte order mark; bytes that are no text end up in a name that no file has.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def list_text(ids: Iterable[str]) -> str:
    """A list as it is published: one name a line, the last line ended as well."""
    return "".join(f"{name}\n" for name in ids)


def seg11valid(voc2011_val: Sequence[str], sbd_train: Iterable[str]) -> list[str]:
    """VOC 2011 val without SBD's train, in val's order: what the published networks are scored on.

    >>> seg11valid(["a", "c", "b"], ["c"])
    ['a', 'b']
    """
    trained_on = set(sbd_train)
    return [name for name in voc2011_val if name not in trained_on]


def trainaug(
    voc2012_train: Iterable[str], voc2012_val: Iterable[str], sbd: Iterable[str]
) -> tuple[list[str], list[str]]:
    """What SBD adds to VOC 2012's train, and both together; none of VOC 2012's val is in either.

    >>> trainaug(["b"], ["v"], ["a", "b", "v"])
    (['a'], ['a', 'b'])
    """
    train = set(voc2012_train)
    aug = set(sbd) - train - set(voc2012_val)
    return sorted(aug), sorted(aug | train)
