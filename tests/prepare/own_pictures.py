"""Labelled pictures in the formats that are read, and the data set that is made of them."""

import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.dataset import prepare_own
from fcn_plugin.prepare.own.source import Job

SIZE = (30, 40)  # height, width
EYE = np.eye(*SIZE, dtype=np.uint8)
LAYOUT = re.compile(r"labelled pictures, \d+ classes$")
TWO = "background\ncat\n"
BOX = dict(label="cat", shape_type="rectangle", points=[[5, 6], [14, 15]])


def image(path: Path, size=SIZE, **settings) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **settings)
    return path


def labelme(folder: Path, names="ab", shapes=(BOX,), **changes) -> None:
    """Files of labelme's and their images; without shapes they are another's."""
    for name in names:
        image(folder / f"{name}.jpg")
        document = dict(shapes=list(shapes) or None, imagePath=f"{name}.jpg")
        document |= dict(imageHeight=SIZE[0], imageWidth=SIZE[1])
        (folder / f"{name}.json").write_text(json.dumps(document | changes))


def masks(
    folder: Path, label=EYE, names="ab", layout=("images", "labels"), classes: str | None = TWO
) -> None:
    """Images, and for each a label picture."""
    for name in names:
        image(folder / layout[0] / f"{name}.jpg", label.shape[:2])
        path = folder / layout[1] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(label).save(path)
    if classes is not None:
        (folder / "classes.txt").write_text(classes)


class Made(NamedTuple):
    root: Path
    lines: list[str]
    notes: list[str]
    layout: str  # the first note, what was read

    def label(self, name: str = "a") -> np.ndarray:
        return np.array(Image.open(self.root / f"SegmentationClass/{name}.png"))

    def listed(self, split: str) -> list[str]:
        return (self.root / f"ImageSets/Segmentation/{split}.txt").read_text().split()

    @property
    def splits(self) -> dict[str, str]:
        """The names in each split, of one letter each."""
        files = (self.root / "ImageSets/Segmentation").iterdir()
        return {file.stem: "".join(self.listed(file.stem)) for file in files}

    @property
    def classes(self) -> list[str]:
        return (self.root / "classes.txt").read_text().split()

    @property
    def images(self) -> list[str]:
        return sorted(path.name for path in (self.root / "JPEGImages").iterdir())


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def prepare(folder: Path, root: str = "out", **options) -> Made:
    """The data set ``root`` beside ``folder``."""
    notes: list[str] = []
    target = folder.parent / root
    lines = prepare_own(Job(folder, target, note=notes.append, **options))
    layout = next(note for note in notes if LAYOUT.search(note))
    notes.remove(layout)
    return Made(target, lines, notes, layout)


def refusal(folder: Path, match: str, **options) -> None:
    """Refused in one line that matches, or a note if several files have faults; nothing is made."""
    notes: list[str] = []
    target = folder.parent / "refused"
    with pytest.raises(UserError) as error:
        prepare_own(Job(folder, target, note=notes.append, **options))
    said = str(error.value)
    assert "\n" not in said
    if "files have faults" in said:
        said = next(note for note in notes if not re.search(f"not read|{LAYOUT.pattern}", note))
    assert re.search(match, said), said
    assert not target.exists() and not list(folder.parent.glob(".*.partial"))
