"""Read and write lists of image names; compute the lists seg11valid and trainaug."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fcn_plugin.errors import UserError


def read_ids(path: Path) -> list[str]:
    """The names in a list file with one name per line; blank lines are skipped."""
    if not path.is_file():
        raise UserError(f"{path}: no such list; unpack the data set again")
    # utf-8-sig drops a byte order mark; bytes that are not text become a name that no file has.
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def list_text(ids: Iterable[str]) -> str:
    """The text of a list as published: one name per line, with a newline after the last."""
    return "".join(f"{name}\n" for name in ids)


def seg11valid(voc2011_val: Sequence[str], sbd_train: Iterable[str]) -> list[str]:
    """VOC 2011 val without SBD train, in val's order; the published networks are scored on it.

    >>> seg11valid(["a", "c", "b"], ["c"])
    ['a', 'b']
    """
    trained_on = set(sbd_train)
    return [name for name in voc2011_val if name not in trained_on]


def trainaug(
    voc2012_train: Iterable[str], voc2012_val: Iterable[str], sbd: Iterable[str]
) -> tuple[list[str], list[str]]:
    """(aug, trainaug): SBD without VOC 2012 train and val, and that plus VOC 2012 train; sorted.

    >>> trainaug(["b"], ["v"], ["a", "b", "v"])
    (['a'], ['a', 'b'])
    """
    train = set(voc2012_train)
    aug = set(sbd) - train - set(voc2012_val)
    return sorted(aug), sorted(aug | train)
