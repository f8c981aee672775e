"""The formats of labelled pictures. For another, write a file like ``labelme`` and add a row."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own import labelme, masks
from fcn_plugin.prepare.own.source import Job, Source


class Reader(NamedTuple):
    """A format.

    Attributes:
        looks: what a folder of this format has, in words.
        recognises: whether a folder has it, by its content.
        read: what is in ``Job.folder``; its labels only when ``Source.read`` is called, in other
            processes. Raises a `UserError` that names the file which is damaged or does not fit.
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
    """What is in ``Job.folder``, by the reader that recognises it.

    Raises:
        UserError: none does, or the reader's.
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
