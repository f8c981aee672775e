"""The archive formats of leaderboards: VOC's server, MIT's for ADE20K, and a plain zip."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmseg.datasets import ADE20KDataset, PascalVOCDataset

from fcn_plugin.data.catalogue import DATA_SETS
from fcn_plugin.data.labels import in_full, voc_palette
from fcn_plugin.data.numbering import Numbering
from fcn_plugin.errors import UserError


@dataclass(frozen=True)
class Leaderboard:
    """The archive that a server accepts; by default a zip of PNGs.

    Attributes:
        classes: names of its data set's classes.
        numbers: value of each class in a PNG.
        palette: RGB in 0-255 from number 0 on, for indexed PNGs; None for grey PNGs.
        title: what the archive is for, in the log.
        images: number of images in the server's test list; None if there is no such list.
        member: path of a PNG in the archive, as a format string.
        comps: numbers of the competitions, the default last.
        suffixes: suffixes that the archive's name may have.
    """

    name: str
    classes: tuple[str, ...]
    numbers: Sequence[int]
    palette: Sequence[Sequence[int]] | None
    title: str
    images: int | None = None
    member: str = "{name}.png"
    comps: tuple[int, ...] = ()
    suffixes: tuple[str, ...] = (".zip",)


LEADERBOARDS = (
    Leaderboard(
        name="VOC",
        classes=PascalVOCDataset.METAINFO["classes"],
        numbers=range(21),
        palette=voc_palette(),
        title="comp{comp} of {year}",
        images=DATA_SETS["voc2012"].split("test").count,
        member="results/{year}/Segmentation/comp{comp}_test_cls/{name}.png",
        comps=(5, 6),
        suffixes=(".tgz", ".tar.gz"),
    ),
    Leaderboard(
        name="MIT",
        classes=ADE20KDataset.METAINFO["classes"],
        numbers=range(1, 151),
        palette=None,
        title="for MIT's server of ADE20K",
        images=DATA_SETS["ade20k"].split("test").count,
    ),
)


def leaderboard_of(
    classes: Sequence[str],
    palette: Sequence[Sequence[int]] | None = None,
    own: bool = False,
    numbering: Numbering | None = None,
) -> Leaderboard:
    """The leaderboard of a data set with these classes, in any order.

    For a data set of no leaderboard: a zip of PNGs with its ``palette``, or else VOC's.

    Args:
        own: The data set is the user's own, even if its classes are some of a leaderboard's.
        numbering: The values of the classes in its label files; by default from 0 on.

    Raises:
        UserError: the classes are only some of a leaderboard's, and ``own`` is false.
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
    numbering = numbering or Numbering(len(classes))
    return Leaderboard(
        name="your data",
        classes=tuple(classes),
        numbers=numbering.numbers,
        palette=in_full(numbering.palette(palette)) if palette else voc_palette(),
        title="index PNGs",
    )


def choose_comp(board: Leaderboard, file: Path, comp: int | None) -> int | None:
    """The competition: ``comp``, or the default one; None if the leaderboard has none.

    Raises:
        UserError: ``file`` has the wrong suffix, or the leaderboard has no such competition.
    """
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
