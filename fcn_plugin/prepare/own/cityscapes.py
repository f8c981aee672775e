"""Cityscapes: ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``, as ids or as train ids."""

import re
from functools import partial
from pathlib import Path

from mmseg.datasets import CityscapesDataset

from fcn_plugin.data.numbering import IGNORED, LEFT_OUT
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.classes import numbered
from fcn_plugin.prepare.own.folder import Folder, split_of
from fcn_plugin.prepare.own.source import Item, Job, Source
from fcn_plugin.prepare.own.values import Meaning, read_picture

LABEL = re.compile(r"(.+)_gt(Fine|Coarse)_label(Train)?Ids")
IMAGE_END = "_leftImg8bit"
# The id of each train id, from the data set's table of labels; the other ids, 0 to 33, are void.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
MOST = 33


def read(folder: Folder, job: Job) -> Source | None:
    """See ``Reader.read``: the labels' ids, or the train ids where the ids are not there.

    Raises:
        UserError: a label has no image, or is not of the kind of the others; or ``--classes``.
    """
    # The labels of SPLIT/CITY/X, fine ones rather than coarse ones, by whether they have train ids.
    labels: dict[Path, dict[bool, Path]] = {}
    for file in folder.having(".png"):
        if match := LABEL.fullmatch(file.stem):
            folders = (part for part in file.parts[-3:-1] if part != f"gt{match[2]}")
            labels.setdefault(Path(*folders, match[1]), {})[bool(match[3])] = folder.path / file
    if not labels:
        return None
    if job.classes_file is not None:
        raise UserError(
            f"--classes {job.classes_file}: Cityscapes has classes of its own; rename or drop some "
            "with --map OLD=NEW"
        )
    has_ids = all(False in files for files in labels.values())
    items = []
    for place, files in labels.items():
        label = files.get(not has_ids)
        if label is None:
            raise UserError(
                f"{next(iter(files.values()))}: no label of the kind that the others have; add it, "
                "or move this away"
            )
        name = f"{place.name}{IMAGE_END}.png"
        image = folder.picture_of(label, name, place.parent.as_posix())
        items.append(Item(place.name, image, label, split_of(Path(folder.key(image)))))
    labelled = {item.image for item in items}
    for file in folder.pictures:
        stem, path = file.stem.removesuffix(IMAGE_END), folder.path / file
        if stem != file.stem and path not in labelled:
            items.append(Item(stem, path, None, split_of(file)))
    names = CityscapesDataset.METAINFO["classes"]
    colours = dict(zip(names, map(tuple, CityscapesDataset.METAINFO["palette"]), strict=True))
    classes = numbered([*names, LEFT_OUT], job, colours, None)
    numbers = [classes.numbers[name] for name in names]
    values = dict.fromkeys(range(MOST + 1), IGNORED) if has_ids else {}
    values |= dict(zip(IDS if has_ids else range(len(names)), numbers, strict=True))
    return Source(
        layout=f"Cityscapes, {'ids' if has_ids else 'train ids'} mapped to {len(names)} classes",
        items=items,
        classes=classes,
        read=partial(read_picture, meaning=Meaning(folder.path, values | {IGNORED: IGNORED}, {})),
    )
