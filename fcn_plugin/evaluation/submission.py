"""Predictions in the form that the servers of VOC and MIT (ADE20K) take, or for a data set of
one's own: an archive of index PNGs under the images' names.

The functions know files only; ``SubmissionMetric`` brings them into a run of the host.
"""

import gzip
import io
import re
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from mmengine import dist
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmseg.datasets import ADE20KDataset, PascalVOCDataset
from mmseg.registry import METRICS
from PIL import Image
from rich.console import Console
from rich.progress import track

from fcn_plugin.data.catalogue import DATA_SETS
from fcn_plugin.data.labels import (
    in_full,
    ranges_in_words,
    save_labels,
    values_outside,
    voc_palette,
)
from fcn_plugin.data.numbering import Numbering, numbering_of
from fcn_plugin.data.picture_files import open_picture, size_and_turn
from fcn_plugin.errors import UserError, some
from fcn_plugin.system.files import replacing

LATEST_VOC = "VOC2012"
MAX_LISTED = 3
Item = TypeVar("Item")

# --- archives: the same members give the same bytes ----------------------------------------------


def _write_tgz(target: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, content in members:
            info = tarfile.TarInfo(name)  # of no one, from 1970
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def _read_tgz(source: Path) -> Iterator[tuple[str, bytes]]:
    with gzip.open(source) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for info in archive:
                file = archive.extractfile(info) if info.isfile() else None
                yield info.name, file.read() if file else b""
        while stream.read(1 << 20):  # gzip's checksum comes last
            continue


def _write_zip(target: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(target, "w") as archive:  # PNGs are compressed already
        for name, content in members:
            info = zipfile.ZipInfo(name)  # from 1980, where zip begins
            info.external_attr = 0o644 << 16
            archive.writestr(info, content)


def _read_zip(source: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            yield info.filename, archive.read(info)


# --- what the servers want -----------------------------------------------------------------------


@dataclass(frozen=True)
class Leaderboard:
    """What a server takes.

    Attributes:
        classes: of its data set.
        images: how many the server's test list has; None if there is no such list.
        numbers: of the classes in a PNG.
        palette: RGB in 0-255 from number 0 on, of indexed PNGs; None for grey ones.
        member: path of a PNG in the archive.
        title: what the archive is for.
        comps: the competitions that ``member`` tells apart, the usual one last.
        suffixes: of the archive.
        write, read: the archive's members, as paths and bytes.
    """

    name: str
    classes: tuple[str, ...]
    images: int | None
    numbers: Sequence[int]
    palette: Sequence[Sequence[int]] | None
    member: str
    title: str
    comps: tuple[int, ...]
    suffixes: tuple[str, ...]
    write: Callable[[Path, Iterable[tuple[str, bytes]]], None]
    read: Callable[[Path], Iterator[tuple[str, bytes]]]


LEADERBOARDS = (
    Leaderboard(
        name="VOC",
        classes=PascalVOCDataset.METAINFO["classes"],
        images=DATA_SETS["voc2012"].split("test").count,
        numbers=range(21),
        palette=voc_palette(),
        member="results/{year}/Segmentation/comp{comp}_test_cls/{name}.png",
        title="comp{comp} of {year}",
        comps=(5, 6),
        suffixes=(".tgz", ".tar.gz"),
        write=_write_tgz,
        read=_read_tgz,
    ),
    Leaderboard(
        name="MIT",
        classes=ADE20KDataset.METAINFO["classes"],
        images=DATA_SETS["ade20k"].split("test").count,
        numbers=range(1, 151),
        palette=None,
        member="{name}.png",
        title="for MIT's server of ADE20K",
        comps=(),
        suffixes=(".zip",),
        write=_write_zip,
        read=_read_zip,
    ),
)


def leaderboard_of(
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    own: bool = False,
    numbering: Numbering | None = None,
) -> Leaderboard:
    """The leaderboard of a data set with these classes, in whatever order.

    Any other data set has one of its own, with its ``palette`` or else VOC's.

    Args:
        own: The data set is none of a leaderboard's, though it may have some of its classes.
        numbering: of the classes in its files; by default from 0 on.

    Raises:
        UserError: a leaderboard has these classes and more.
    """
    for board in LEADERBOARDS:
        if sorted(classes) == sorted(board.classes):
            return board
        if set(classes) < set(board.classes) and not own:
            raise UserError(
                f"submission: the data set has {len(classes)} of {board.name}'s "
                f"{len(board.classes)} classes and the server wants all; leave metainfo.classes "
                "out and train on all of them"
            )
    return _own_board(classes, palette, numbering or Numbering(len(classes)))


def _own_board(
    classes: Sequence[str], palette: Sequence[Sequence[int]] | None, numbering: Numbering
) -> Leaderboard:
    """A zip of PNGs that hold the data set's own numbers, for whoever judges them."""
    return Leaderboard(
        name="your data",
        classes=tuple(classes),
        images=None,
        numbers=numbering.numbers,
        palette=in_full(numbering.palette(palette)) if palette else voc_palette(),
        member="{name}.png",
        title="index PNGs",
        comps=(),
        suffixes=(".zip",),
        write=_write_zip,
        read=_read_zip,
    )


def choose_comp(board: Leaderboard, file: Path, comp: int | None) -> int | None:
    """The competition: ``comp``, or the usual one. Refuses what does not fit the leaderboard."""
    if not file.name.endswith(board.suffixes):
        raise UserError(
            f"{file}: for {board.name} it is a {' or '.join(board.suffixes)}; name it "
            f"{file.name.split('.')[0] or 'results'}{board.suffixes[0]}"
        )
    if comp is None:
        return board.comps[-1] if board.comps else None
    if comp not in board.comps:
        possible = " or ".join(map(str, board.comps))
        remedy = f"give {possible}" if possible else "it has none; leave --comp out"
        raise UserError(f"submission: {board.name} has no competition {comp}; {remedy}")
    return comp


def class_numbers(board: Leaderboard, classes: Sequence[str]) -> np.ndarray:
    """The leaderboard's number, uint8, of each of a data set's classes."""
    return np.array([board.numbers[board.classes.index(name)] for name in classes], np.uint8)


# --- one PNG, one archive ------------------------------------------------------------------------


def image_size(path: str) -> tuple[int, int]:
    """Width and height of an image turned upright, from the head of its file."""
    (width, height), turned = size_and_turn(path)
    return (height, width) if turned else (width, height)


def png_fault(content: bytes, board: Leaderboard, size: tuple[int, int]) -> str | None:
    """What the server would not like about a PNG for an image of ``size``; None for nothing."""
    try:
        open_picture(io.BytesIO(content), formats=["PNG"]).verify()  # the checksums
        image = open_picture(io.BytesIO(content), formats=["PNG"])
        stored = str(image.tile[0][3])  # Pillow's mode with the number of bits, if not eight
        image.load()
    except Image.UnidentifiedImageError:
        return "a damaged PNG (it does not begin as one)"
    # What a decoder raises on arbitrary bytes is not documented.
    except Exception as error:
        return f"a damaged PNG ({error})"
    mode, kind = ("P", "indexed") if board.palette else ("L", "grey")
    if image.mode != mode or stored != mode:
        return f"its mode is {stored}, not {kind} with 8 bits"
    if image.size != size:
        return "it is {}x{} for an image of {}x{}".format(*image.size, *size)
    pixels = np.asarray(image)
    if wrong := values_outside(board.numbers, pixels):
        return f"has the value {max(wrong)}, not only {ranges_in_words(board.numbers)}"
    if board.palette:
        last = max(board.numbers)
        colours = [level for colour in board.palette[: last + 1] for level in colour]
        if (image.getpalette() or [])[: len(colours)] != colours:
            return f"its palette is not {board.name}'s"
    return None


def archive_faults(
    archive: Path, board: Leaderboard, sizes: Mapping[str, tuple[int, int]]
) -> list[str]:
    """What the server would not like about an archive; read wholly.

    Args:
        sizes: width and height of the image behind each path that the archive is to have.
    """
    faults, seen = [], Counter[str]()
    try:
        for name, content in _shown(board.read(archive), "reading back", len(sizes)):
            seen[name] += 1
            if name in sizes and (fault := png_fault(content, board, sizes[name])):
                faults.append(f"{name}: {fault}")
    # tarfile, zipfile, gzip and zlib have each their own errors, and not all are documented.
    except Exception as error:
        faults.append(f"the archive is damaged ({error})")
    faults += [f"{name}: missing" for name in sizes if name not in seen]
    faults += [f"{name}: there {count} times" for name, count in seen.items() if count > 1]
    faults += [f"{name}: not the prediction of an image" for name in seen if name not in sizes]
    return [" ".join(fault.split()) for fault in faults]  # names may hold ends of lines


def write_submission(
    file: Path, board: Leaderboard, comp: int | None, predictions: Mapping[str, Path]
) -> str:
    """Pack PNGs, read the archive back, and only then let it take the place of ``file``.

    Args:
        predictions: image -> PNG.

    Returns:
        What is now in ``file``, as a line.

    Raises:
        UserError: two images claim one name, or the archive is not what the server wants; ``file``
            is as it was.
    """
    year = _voc_year(predictions)
    members: dict[str, str] = {}
    for image in predictions:
        member = board.member.format(year=year, comp=comp, name=Path(image).stem)
        if members.setdefault(member, image) != image:
            raise UserError(
                f"{image}: {members[member]} has the same name, and the server goes by it; take "
                "one of them out of the data set"
            )
    images = _shown(sorted(members.items()), "sizes of the images", len(members))
    sizes = {member: image_size(image) for member, image in images}
    with replacing(file) as part:
        names = _shown(sorted(members), "packing", len(members))
        board.write(part, ((name, predictions[members[name]].read_bytes()) for name in names))
        if faults := archive_faults(part, board, sizes):
            raise UserError(
                f"{file}: not written, {len(faults)} faults in it: "
                f"{some(faults, MAX_LISTED, '; ')}; put that right and test again"
            )
    title = board.title.format(comp=comp, year=year)
    return f"{file}: {len(members):,} predictions, {title}, read back and valid"


def _voc_year(images: Iterable[str]) -> str:
    found = {year for image in images for year in re.findall(r"\bVOC20\d\d\b", image)[-1:]}
    if len(found) > 1:
        raise UserError(
            f"submission: images of {' and '.join(sorted(found))}; the server takes one at a time"
        )
    return found.pop() if found else LATEST_VOC


def _shown(items: Iterable[Item], title: str, total: int) -> Iterable[Item]:
    """The items, with a bar on stderr if that is a terminal."""
    console = Console(stderr=True)
    return track(
        items, title, total, console=console, transient=True, disable=not console.is_terminal
    )


# --- in a run of the host ------------------------------------------------------------------------


@METRICS.register_module()
class SubmissionMetric(BaseMetric):
    """Writes the predictions of a test set as an archive for its leaderboard; scores nothing.

    With the classes of VOC or ADE20K, in any order, it is what their servers take; for any other
    data set a zip of index PNGs in its own numbers. Until all samples are predicted the PNGs wait
    in the folder ``.NAME.spool`` beside the archive; all processes have to see it. One process and
    many write the same bytes. Killed at any moment, ``file`` is as it was, or whole.

    Args:
        file: the archive, ``.tgz`` or ``.tar.gz`` for VOC, ``.zip`` for ADE20K and all others.
        comp: VOC's competition: 5, trained on VOC only, or 6 (default), on other data too, such
            as ImageNet or SBD.
        collect_device, prefix: as for every metric of the host.

    Raises:
        UserError: before the first sample if the data set, the name or the folder of ``file`` will
            not do; in the end if the archive, read back, is not what the server wants.
    """

    default_prefix = ""  # None would make the host warn

    def __init__(
        self,
        file: str,
        comp: int | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.file = Path(file)
        self.comp = comp

    @BaseMetric.dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        """The host tells it to every process, once, before the first sample."""
        self._dataset_meta = meta
        classes = meta["classes"]
        # Of the host's data sets, those that a config takes some classes of have a map of them.
        own = meta.get("label_map", {}) is None
        self.board = leaderboard_of(classes, meta.get("palette"), own, numbering_of(meta))
        self.comp = choose_comp(self.board, self.file, self.comp)
        self.numbers = class_numbers(self.board, classes)
        self.spool = spool_of(self.file)
        on_first_process(self._make_spool)

    def _make_spool(self) -> None:
        if self.file.is_dir():
            raise UserError(f"{self.file}: a folder; give the archive another name")
        with _disk(self.file):
            if self.spool.exists():  # of a run that was killed
                shutil.rmtree(self.spool)
            self.spool.mkdir(parents=True)

    def process(self, data_batch: dict, data_samples: list[dict]) -> None:
        """Keep the predictions of a batch, ``pred_sem_seg`` of 1 x H x W integers, as PNGs."""
        # Each process has a folder, as samplers repeat some samples on two of them.
        folder = self.spool / str(dist.get_rank())
        for sample in data_samples:
            image = sample["img_path"]
            labels = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            if labels.max() >= len(self.numbers):
                raise UserError(
                    f"{image}: predicted outside the {len(self.numbers)} classes of the data set; "
                    "set the decode head's num_classes to the data set's"
                )
            png = folder / f"{Path(image).stem}.png"
            with _disk(self.file):
                save_labels(self.numbers[labels], png, self.board.palette)
            self.results.append((image, png))

    def evaluate(self, size: int) -> dict[str, float]:
        """Write the archive, if the images are the ``size`` of the data set; scores nothing."""
        gathered = dist.all_gather_object(self.results)
        predictions = {image: png for part in gathered for image, png in part}
        self.results.clear()
        on_first_process(lambda: self._write(predictions, size))
        return {}

    def _write(self, predictions: dict[str, Path], size: int) -> None:
        try:
            if len(predictions) != size:
                raise UserError(
                    f"{self.file}: not written, {len(predictions)} images are predicted and the "
                    f"data set has {size}; take repeated lines out of its list"
                )
            with _disk(self.file):
                line = write_submission(self.file, self.board, self.comp, predictions)
        finally:
            shutil.rmtree(self.spool, ignore_errors=True)
        logger = MMLogger.get_current_instance()
        logger.info("%s", line)
        if self.board.images not in (None, size):
            logger.warning(
                "%s is a rehearsal only: the server wants the %s images of its test list, and "
                "these are %s",
                *(self.file, f"{self.board.images:,}", f"{size:,}"),
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """None."""
        return {}


def spool_of(file: Path) -> Path:
    """The folder where the predictions wait for the last one."""
    return file.with_name(f".{file.name}.spool")


def on_first_process(work: Callable[[], object]) -> None:
    """Do it there; if it fails it fails on all processes, and none is left waiting."""
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


@contextmanager
def _disk(file: Path) -> Iterator[None]:
    """What the disk refuses, as a mistake that can be put right."""
    try:
        yield
    except OSError as error:
        where = error.filename or file
        raise UserError(
            f"{where}: {error.strerror or error}; {file} was not written, make room, or choose a "
            "folder for it that all processes can write to"
        ) from error
