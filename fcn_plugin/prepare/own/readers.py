"""The formats of labelled pictures. To add one, write a file like ``labelme`` and add a row."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own import labelme, masks
from fcn_plugin.prepare.own.source import Job, Source


class Reader(NamedTuple):
    """A format.

    Attributes:
        looks: what a folder of this format contains, in words for the user.
        recognises: whether a folder's content has this format.
        read: lists the pictures in ``Job.folder``; ``Source.read`` reads the labels later, in other
            processes. Raises a `UserError` that names the file that is damaged or does not fit.
    """

    looks: str
    recognises: Callable[[Path], bool]
    read: Callable[[Job], Source]


# The first that recognises a folder reads it.
READERS = (
    Reader("JPEGImages and SegmentationClass, or images and labels", masks.recognises, masks.read),
    Reader("*.json of labelme", labelme.recognises, labelme.read),
)


def read_source(job: Job) -> Source:
    """The pictures in ``Job.folder``, from the first reader that recognises the folder.

    Raises:
        UserError: no reader recognises the folder, or the reader finds a fault.
    """
    folder = job.folder
    if not folder.is_dir():
        reason = "is a file; unpack it and give the folder" if folder.exists() else "no such folder"
        raise UserError(f"{folder}: {reason}")
    for reader in READERS:
        if reader.recognises(folder):
            return reader.read(job)
    raise UserError(
        f"{folder}: no labelled pictures; there should be "
        f"{', or '.join(reader.looks for reader in READERS)}, with the files right in them and not "
        "deeper"
    )
