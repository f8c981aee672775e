"""What leaderboards take: VOC's server, MIT's for ADE20K, or whoever judges one's own data."""

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
    """What a server takes; by default a zip of PNGs.

    Attributes:
        classes: of its data set.
        numbers: of the classes in a PNG.
        palette: RGB in 0-255 from number 0 on, of indexed PNGs; None for grey ones.
        title: what the archive is for.
        images: how many the server's test list has; None if there is no such list.
        member: path of a PNG in the archive.
        comps: the competitions that ``member`` tells apart, the usual one last.
        suffixes: of the archive.
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
    numbering = numbering or Numbering(len(classes))
    return Leaderboard(
        name="your data",
        classes=tuple(classes),
        numbers=numbering.numbers,
        palette=in_full(numbering.palette(palette)) if palette else voc_palette(),
        title="index PNGs",
    )


def choose_comp(board: Leaderboard, file: Path, comp: int | None) -> int | None:
    """The competition: ``comp``, or the usual one; None where there is none.

    Raises:
        UserError: the leaderboard takes no such file, or has no such competition.
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
