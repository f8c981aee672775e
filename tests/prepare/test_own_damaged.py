"""Any change to a file of any tool: an error for the user in one line, or a label of its size."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prepare import test_own_coco as coco
from prepare import test_own_cvat as cvat
from prepare import test_own_supervisely as supervisely
from prepare import test_own_yolo as yolo
from prepare.own_pictures import SIZE, image, prepare

from fcn_plugin.errors import UserError

VALUES = (None, True, -1, 1e308, 2**70, 10**400, float("nan"), "", "x", [], [None], [[1]], {})
CHANGES = 60


def of_coco(folder: Path) -> Path:
    for name in "ab":
        image(folder / f"{name}.jpg")
    segmentations = (coco.ROUND, coco.runs(coco.DISC), coco.compressed(coco.DISC))
    coco.coco(folder / "result.json", [coco.annotation(each) for each in segmentations])
    return folder / "result.json"


def of_supervisely(folder: Path) -> Path:
    objects = [
        supervisely.polygon("cat", supervisely.OUTLINE, supervisely.HOLE),
        supervisely.rectangle("cat", [1, 2], [5, 6]),
        supervisely.bitmap("dog", supervisely.DISC, (3, 4)),
    ]
    supervisely.project(folder, objects=objects, tags=["train", "val"])
    return folder / "ds0/ann/a.jpg.json"


def of_cvat(folder: Path) -> Path:
    for name in "ab":
        image(folder / f"images/{name}.jpg")
    shapes = [
        cvat.polygon("cat", cvat.BOX),
        cvat.rle("dog", cvat.DISC, 3, 4, 2),
        cvat.ellipse("cat", 1, cx=20, cy=15, rx=5.5, ry=8, rotation="20.00"),
    ]
    return cvat.cvat(folder / "annotations.xml", {"a.jpg": shapes, "b.jpg": []})


def of_yolo(folder: Path) -> Path:
    yolo.yolo(folder, train_a=f"{yolo.CAT}\n{yolo.DOG}", val_b=yolo.DOG)
    return folder / "labels/train/a.txt"


def of_yaml(folder: Path) -> Path:
    of_yolo(folder)
    return folder / "data.yaml"


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Each list or object in a document, with each of its indices or keys."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(entries):
        yield document, key
        if isinstance(value, dict | list):
            yield from places(value)


def changed_json(content: bytes, chance: random.Random) -> bytes:
    document = copy.deepcopy(json.loads(content))
    owner, key = chance.choice(list(places(document)))
    owner[key] = chance.choice(VALUES)
    if chance.random() < 0.2:
        del owner[key]
    return json.dumps(document).encode()


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    place, other = (chance.randrange(len(content)) for _ in range(2))
    more = content[other : other + 1] + chance.randbytes(chance.randrange(2))
    return content[:place] + more + content[place + chance.randrange(3) :]


CASES = [(write, changed_json) for write in (of_coco, of_supervisely)]
CASES += [(write, changed_bytes) for write in (of_coco, of_cvat, of_supervisely, of_yolo, of_yaml)]


@pytest.mark.parametrize(("write", "change"), CASES)
def test_a_change_is_refused_or_read(tmp_path, write, change):
    path = write(tmp_path / "in")
    content, chance, refused = path.read_bytes(), random.Random(0), 0
    for number in range(CHANGES):
        path.write_bytes(change(content, chance))
        try:
            assert prepare(tmp_path / "in", f"out{number}").label("a").shape == SIZE
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 0 < refused < CHANGES
