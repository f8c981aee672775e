"""Labels as polygons: what labelme's and COCO's own rasterisers make of them is the label again."""

import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.mask import encode, toBbox

from fcn_plugin.data.labels import read_label
from fcn_plugin.prediction import Prediction
from fcn_plugin.prediction.annotations import label_files
from fcn_plugin.prediction.network import Classes
from fcn_plugin.prepare.own.readers import read_source
from fcn_plugin.prepare.own.source import Job

NAMES = ("road", "background", "car", "sky")
# The numbers of the classes in the label files are others than their places.
MAP = ((1, 0), (5, 1), (2, 2), (7, 3))
LEFT_OUT = 255


def classes(names=NAMES) -> Classes:
    return Classes(names, ((0, 0, 0),) * 4, label_map=MAP)


def any_labels() -> dict[Path, np.ndarray]:
    """Noise, in which regions touch at corners only, coarse noise, and rounded regions in rings."""
    rng, numbers = np.random.default_rng(0), np.array([1, 5, 2, 7], np.uint8)
    labels = {}
    for number in range(24):
        size = rng.integers(1, 30, 2)
        label = numbers[rng.integers(0, rng.integers(2, 5), size)]
        zoom = 1 + 3 * (number % 3)
        label = label.repeat(zoom, 0).repeat(zoom, 1)
        labels[Path(f"{number:02}")] = cv2.medianBlur(label, 5) if zoom == 7 else label
    ring = np.full((40, 50), 2, np.uint8)
    for inset, number in enumerate((5, 1, 5, 7, 5), start=1):
        ring[4 * inset : -4 * inset, 4 * inset : -4 * inset] = number
    return labels | {Path("rings"): ring}


def write(folder: Path, kind: str, labels: dict, tolerance=0.0, names=NAMES) -> None:
    """As ``fcn-plugin predict --labels-as`` writes them, of pictures in another folder."""
    with label_files(kind, folder, classes(names), tolerance) as write_one:
        for name, label in labels.items():
            picture = folder / "pictures" / f"{name}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", label.shape[::-1]).save(picture)
            write_one(name, picture, Prediction(label, np.zeros((*label.shape, 3)), classes(names)))


def from_labelme(folder: Path) -> dict[Path, np.ndarray]:
    """The labels that our reader draws, in the numbers of ``MAP``; 0 for a class it adds."""
    source = read_source(Job(folder / "labels", folder / "data"))
    numbers = np.full(256, LEFT_OUT, np.uint8)
    names = dict(zip(NAMES, (number for number, _ in MAP), strict=True))
    classes = source.classes.names
    numbers[: len(classes)] = [names.get(name, 0) for name in classes]
    labels = {}
    for item in source.items:
        assert item.image is not None
        size = Image.open(item.image).size[::-1]
        labels[Path(item.name)] = numbers[source.read(item, size)]
    return labels


def from_coco(folder: Path, exact: bool = True) -> dict[Path, np.ndarray]:
    """The labels that pycocotools draws; 5, background, where it draws nothing."""
    file = COCO(folder / "labels" / "annotations.json")
    numbers = {category: MAP[category - 1][0] for category in file.cats}
    assert [file.cats[i]["name"] for i in (1, 2, 3, 4)] == list(NAMES)
    assert sorted(file.anns) == list(range(1, len(file.anns) + 1))
    labels = {}
    for id, image in file.imgs.items():
        label = np.full((image["height"], image["width"]), 5, np.uint8)
        for annotation in file.loadAnns(file.getAnnIds(id)):
            mask = file.annToMask(annotation).astype(bool)
            label[mask] = numbers[annotation["category_id"]]
            if exact:
                assert annotation["area"] == mask.sum() and annotation["iscrowd"] == 0
                assert annotation["bbox"] == toBbox(encode(np.asfortranarray(mask))).tolist()
        labels[Path(image["file_name"]).with_suffix("")] = label
    return labels


@pytest.fixture(autouse=True)
def silent(capsys):
    """pycocotools prints what it does."""


@pytest.mark.parametrize(("kind", "again"), [("labelme", from_labelme), ("coco", from_coco)])
def test_polygons_of_all_points_are_the_label(tmp_path, kind, again):
    labels = any_labels()
    write(tmp_path, kind, labels)
    drawn = again(tmp_path)
    assert drawn.keys() == labels.keys()
    assert [str(n) for n in labels if not np.array_equal(drawn[n], labels[n])] == []


INEXACT = partial(from_coco, exact=False)


@pytest.mark.parametrize(("kind", "again"), [("labelme", from_labelme), ("coco", INEXACT)])
def test_fewer_points_stay_near_the_outlines(tmp_path, kind, again):
    """A pixel that changes is at most two pixels from a border of classes."""
    rows, columns = np.mgrid[:120, :160]
    label = np.full((120, 160), 5, np.uint8)
    for number, x, y, radius in [(1, 70, 60, 55), (2, 80, 60, 30), (7, 82, 64, 9)]:
        label[(columns - x) ** 2 + (rows - y) ** 2 < radius**2] = number
    sizes = []
    for tolerance in (0.0, 1.0):
        write(tmp_path, kind, {Path("a"): label}, tolerance)
        sizes.append(sum(f.stat().st_size for f in (tmp_path / "labels").glob("*.json")))
    drawn = again(tmp_path)[Path("a")]
    disc = np.ones((5, 5), np.uint8)
    border = cv2.dilate(label, disc) != cv2.erode(label, disc)
    assert 0 < (drawn != label).mean() < 0.02 and not (drawn != label)[~border].any()
    assert sizes[1] < 0.7 * sizes[0]


def test_without_a_background_what_is_between_polygons_is_left_out(tmp_path):
    names = ("road", "tree", "car", "sky")
    label = cv2.circle(np.full((60, 80), 1, np.uint8), (40, 30), 20, 7, -1)
    label = cv2.circle(label, (0, 0), 30, 2, -1)
    write(tmp_path, "labelme", {Path("a"): label}, 2.0, names)
    drawn = from_labelme(tmp_path)[Path("a")]
    assert set(np.unique(drawn)) == {1, 2, 7, LEFT_OUT} and (drawn == LEFT_OUT).mean() < 0.05
    assert (tmp_path / "labels/classes.txt").read_text().split() == ["__ignore__", *names]


def test_what_labelme_asks_of_a_file(tmp_path):
    label = np.array([[1, 5, 5, 2], [5, 5, 5, 2]], np.uint8)
    write(tmp_path, "labelme", {Path("below/a"): label})
    file = tmp_path / "labels/below/a.json"
    document = json.loads(file.read_text())
    assert (file.parent / document["imagePath"]).samefile(tmp_path / "pictures/below/a.png")
    assert [document[key] for key in ("imageData", "imageHeight", "imageWidth")] == [None, 2, 4]
    shapes = {shape["label"]: shape["points"] for shape in document["shapes"]}
    assert shapes == {"road": [[0.5, 0.5]] * 3, "car": [[3.5, 0.5], [3.5, 1.5], [3.5, 1.5]]}


def test_pngs_are_as_ever(tmp_path):
    label = next(iter(any_labels().values()))
    write(tmp_path, "png", {Path("a"): label})
    assert np.array_equal(read_label(tmp_path / "labels/a.png"), label)
