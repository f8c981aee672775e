"""The folder with a user's labelled pictures, unpacked first if it is an archive."""

import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.archives import unpack
from fcn_plugin.prepare.own.folder import one_split
from fcn_plugin.prepare.own.source import Job

# An archive may unpack to this many bytes, or to this many times its own size.
LEAST_LIMIT, MAX_GROWTH = 8 << 30, 100


@contextmanager
def unpacked(job: Job) -> Iterator[Job]:
    """The job with the folder that has the pictures: below folders that hold nothing but a folder.

    An archive is unpacked beside ``job.root``, and the files are deleted in the end.

    Raises:
        UserError: there is no such file, or it is no archive or an unsafe one.
    """
    if job.folder.is_dir():
        yield job._replace(folder=_inner(job.folder))
        return
    if not job.folder.is_file():
        raise UserError(f"{job.folder}: no such folder or archive; correct the path")
    if not (zipfile.is_zipfile(job.folder) or tarfile.is_tarfile(job.folder)):
        raise UserError(f"{job.folder}: neither a folder nor an archive; give the folder")
    job.root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{job.root.name}.", dir=job.root.parent) as folder:
        target = Path(folder, job.folder.name)
        limit = max(LEAST_LIMIT, MAX_GROWTH * job.folder.stat().st_size)
        limit = min(limit, shutil.disk_usage(folder).free)
        unpack(job.folder, target, lambda path: path, limit, job.progress)

        def named(text: str) -> str:
            """With the archive for the folder, which is gone when the text is read."""
            return text.replace(str(target), str(job.folder))

        try:
            yield job._replace(folder=_inner(target), note=lambda text: job.note(named(text)))
        except UserError as error:
            raise UserError(named(str(error))) from None


def _inner(folder: Path) -> Path:
    while True:
        inside = [path for path in folder.iterdir() if path.name[0] not in "._"]
        if len(inside) != 1 or not inside[0].is_dir() or one_split([inside[0].name]):
            return folder
        folder = inside[0]
