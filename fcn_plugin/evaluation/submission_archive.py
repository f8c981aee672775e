"""Pack index PNGs for a leaderboard's server, and find every fault of such an archive.

The same PNGs always give the same bytes.
"""

import gzip
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_plugin.data.labels import ranges_in_words, values_outside
from fcn_plugin.data.picture_files import open_picture, size_and_turn
from fcn_plugin.errors import UserError, some
from fcn_plugin.evaluation.leaderboards import Leaderboard
from fcn_plugin.system.files import replacing
from fcn_plugin.system.progress import Progress, progress_bar, silent

LATEST_VOC = "VOC2012"
MAX_LISTED = 3  # faults in a message
Member = tuple[str, bytes]  # path in the archive, content


def _write_tgz(target: Path, members: Iterable[Member]) -> None:
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, content in members:
            info = tarfile.TarInfo(name)  # no owner, dated 1970
            info.size = len(content)
            archive.addfile(info, BytesIO(content))


def _read_tgz(source: Path) -> Iterator[Member]:
    with gzip.open(source) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for info in archive:
                file = archive.extractfile(info) if info.isfile() else None
                yield info.name, file.read() if file else b""
        while stream.read(1 << 20):  # to the end, where gzip verifies its checksum
            continue


def _write_zip(target: Path, members: Iterable[Member]) -> None:
    with zipfile.ZipFile(target, "w") as archive:  # PNGs are compressed already
        for name, content in members:
            info = zipfile.ZipInfo(name)  # dated 1980, the first year of zip
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)


def _read_zip(source: Path) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            yield info.filename, archive.read(info)


# A leaderboard's first suffix -> its functions to write and read.
FORMATS = {".tgz": (_write_tgz, _read_tgz), ".zip": (_write_zip, _read_zip)}


def image_size(path: str) -> tuple[int, int]:
    """(width, height) of an upright image, from its file's header."""
    (width, height), turned = size_and_turn(path)
    return (height, width) if turned else (width, height)


def png_fault(content: bytes, board: Leaderboard, size: tuple[int, int]) -> str | None:
    """The fault for which the server would reject a PNG of an image of ``size``, or None."""
    try:
        open_picture(BytesIO(content), formats=["PNG"]).verify()  # the checksums
        image = open_picture(BytesIO(content), formats=["PNG"])
        stored = str(image.tile[0][3])  # Pillow's mode, with the number of bits unless it is 8
        image.load()
    except Image.UnidentifiedImageError:
        return "a damaged PNG (it does not begin as one)"
    # Decoders do not document what they raise on arbitrary bytes.
    except Exception as error:
        return f"a damaged PNG ({error})"
    mode, kind = ("P", "indexed") if board.palette else ("L", "grey")
    if image.mode != mode or stored != mode:
        return f"its mode is {stored}, not {kind} with 8 bits"
    if image.size != size:
        return "it is {}x{} for an image of {}x{}".format(*image.size, *size)
    if wrong := values_outside(board.numbers, np.asarray(image)):
        return f"has the value {max(wrong)}, not only {ranges_in_words(board.numbers)}"
    if board.palette:
        last = max(board.numbers)
        colours = [level for colour in board.palette[: last + 1] for level in colour]
        if (image.getpalette() or [])[: len(colours)] != colours:
            return f"its palette is not {board.name}'s"
    return None


def archive_faults(
    archive: Path,
    board: Leaderboard,
    sizes: Mapping[str, tuple[int, int]],
    progress: Progress = silent,
) -> list[str]:
    """The faults for which the server would reject an archive; reads all of it.

    Args:
        sizes: path expected in the archive -> (width, height) of its image.
    """
    _, read = FORMATS[board.suffixes[0]]
    faults, members = [], Counter[str]()
    try:
        for name, content in read(archive):
            members[name] += 1
            if name in sizes and (fault := png_fault(content, board, sizes[name])):
                faults.append(f"{name}: {fault}")
            progress("Reading back", members.total(), len(sizes))
    # tarfile, zipfile, gzip and zlib raise errors of their own, not all documented.
    except Exception as error:
        faults.append(f"the archive is damaged ({error})")
    faults += [f"{name}: missing" for name in sizes if name not in members]
    faults += [f"{name}: there {count} times" for name, count in members.items() if count > 1]
    faults += [f"{name}: not the prediction of an image" for name in members if name not in sizes]
    return [" ".join(fault.split()) for fault in faults]  # names may contain newlines


def write_submission(
    file: Path, board: Leaderboard, comp: int | None, predictions: Mapping[str, Path]
) -> str:
    """Pack PNGs, check the archive by reading it back, and only then replace ``file``.

    Args:
        predictions: image -> PNG.

    Returns:
        One line for the log that describes ``file``.

    Raises:
        UserError: two images have the same name, or the server would reject the archive; ``file``
            is unchanged.
    """
    year = _voc_year(predictions)
    images: dict[str, str] = {}
    for image in predictions:
        member = board.member.format(year=year, comp=comp, name=Path(image).stem)
        if images.setdefault(member, image) != image:
            raise UserError(
                f"{image}: {images[member]} has the same name, and the server goes by it; take "
                "one of them out of the data set"
            )
    write, _ = FORMATS[board.suffixes[0]]
    with progress_bar() as progress, replacing(file) as part:
        sizes = {}
        for number, (member, image) in enumerate(images.items(), start=1):
            sizes[member] = image_size(image)
            progress("Sizes of the images", number, len(images))
        write(part, _contents(images, predictions, progress))
        if faults := archive_faults(part, board, sizes, progress):
            raise UserError(
                f"{file}: not written, {len(faults)} faults in it: "
                f"{some(faults, MAX_LISTED, '; ')}; correct them and test again"
            )
    title = board.title.format(comp=comp, year=year)
    return f"{file}: {len(images):,} predictions, {title}, read back and valid"


def _contents(
    images: Mapping[str, str], predictions: Mapping[str, Path], progress: Progress
) -> Iterator[Member]:
    for number, member in enumerate(sorted(images), start=1):
        yield member, predictions[images[member]].read_bytes()
        progress("Packing", number, len(images))


def _voc_year(images: Iterable[str]) -> str:
    years = {year for image in images for year in re.findall(r"\bVOC20\d\d\b", image)[-1:]}
    if len(years) > 1:
        raise UserError(
            f"submission: images of {' and '.join(sorted(years))}; the server takes one at a time"
        )
    return years.pop() if years else LATEST_VOC
