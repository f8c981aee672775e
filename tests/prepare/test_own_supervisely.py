"""Supervisely's projects: what polygons, bitmaps and rectangles cover, and what is refused."""

import base64
import io
import json
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from prepare.own_pictures import SIZE, image, prepare, refusal

CLASSES = [
    dict(title="dog", shape="bitmap", color="#0A14FF"),
    dict(title="cat", shape="polygon", color="#208000"),
]
DISC = np.hypot(*(np.indices((15, 17)) - 7)) < 6.5
OUTLINE, HOLE = [[4, 3], [35, 5], [30, 27], [6, 25]], [[10, 8], [25, 9], [20, 20]]


def thing(title: str, kind: str, **geometry) -> dict:
    return dict(classTitle=title, geometryType=kind, tags=[]) | geometry


def polygon(title: str, exterior, *interior) -> dict:
    return thing(title, "polygon", points=dict(exterior=exterior, interior=list(interior)))


def rectangle(title: str, *corners) -> dict:
    return thing(title, "rectangle", points=dict(exterior=list(corners), interior=[]))


def bitmap(title: str, mask: np.ndarray, origin, mode: str = "P", **settings) -> dict:
    """The way of the SDK, or with an alpha channel or one bit a pixel, as other versions write."""
    picture = Image.fromarray(mask.astype(np.uint8))
    if mode == "P":
        picture.putpalette([0, 0, 0, 255, 255, 255])
        settings["transparency"] = 0
    else:
        alpha = Image.fromarray(mask.astype(np.uint8) * 255)
        picture = Image.merge("RGBA", [alpha.point(lambda _: 9)] * 3 + [alpha])
        picture = alpha.convert("1") if mode == "1" else picture
    file = io.BytesIO()
    picture.save(file, "PNG", **settings)
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    return thing(title, "bitmap", bitmap=dict(data=data, origin=list(origin)))


def project(root: Path, names=("ds0/a", "ds0/b"), objects=(), tags=(), **changes) -> Path:
    """A picture and an annotation for each name, with the same objects."""
    for number, name in enumerate(names):
        place, stem = root / Path(name).parent, Path(name).name
        image(place / f"img/{stem}.jpg")
        own = [dict(name=tag) for tag in tags[number : number + 1]]
        size = dict(height=SIZE[0], width=SIZE[1])
        document = dict(description="", tags=own, size=size, objects=list(objects)) | changes
        (place / "ann").mkdir(exist_ok=True)
        (place / f"ann/{stem}.jpg.json").write_text(json.dumps(document))
    (root / "meta.json").write_text(json.dumps(dict(classes=CLASSES, tags=[])))
    return root


@pytest.mark.parametrize("mode", ["P", "RGBA", "1"])
def test_objects_lie_in_order_and_holes_show_what_is_below(tmp_path, mode):
    objects = [
        rectangle("dog", [20, 12], [0, 0]),
        polygon("cat", OUTLINE, HOLE),
        bitmap("dog", DISC, (22, 14), mode),
        rectangle("cat", [-2, 28], [3, 35]),
    ]
    made = prepare(project(tmp_path / "in", objects=objects))
    expected = np.zeros(SIZE, np.uint8)
    expected[:13, :21] = 1
    inside = cv2.fillPoly(np.zeros(SIZE, np.uint8), [np.array(OUTLINE)], 1)
    inside[cv2.fillPoly(np.zeros(SIZE, np.uint8), [np.array(HOLE)], 1) == 1] = 0
    expected[inside == 1] = 2
    expected[14:29, 22:39][DISC] = 1
    expected[28:, :4] = 2
    assert np.array_equal(made.label(), expected)
    assert made.label()[11, 15] == 1 and made.label()[15, 18] == 0  # in the hole
    assert made.classes == ["background", "dog", "cat"]
    palette = Image.open(made.root / "SegmentationClass/a.png").getpalette()
    assert palette[3:9] == [10, 20, 255, 32, 128, 0]


def test_the_split_is_in_tags_if_all_have_one_else_in_folders(tmp_path):
    box = [rectangle("cat", [1, 1], [9, 9])]
    names = ["ds0/a", "ds0/b", "ds1/c"]
    tagged = project(tmp_path / "in", names, box, ["train", "val", "Test"])
    assert prepare(tagged).splits == dict(train="a", val="b", test="c")
    other = project(tmp_path / "other", ["train/a", "val/b"], box, ["val"])
    image(other / "test/img/c.jpg")
    assert prepare(other, "second").splits == dict(train="a", val="b", test="c")
    both = project(tmp_path / "both", names, box, ["trainval", "trainval", "test"])
    made = prepare(both, "third")
    assert made.splits["test"] == "c" and {*made.splits["train"], *made.splits["val"]} == {*"ab"}


BOMB = base64.b64encode(zlib.compress(bytes(10**7))).decode()
WIDE = bitmap("cat", np.ones((2, 41), bool), (0, 0))
FAULTS = {
    "a class": (
        dict(objects=[rectangle("cow", [1, 1], [2, 2])]),
        r"object 1 is a 'cow', which is no",
    ),
    "a line": (dict(objects=[thing("cat", "line")]), r"object 1 \(cat\) is a 'line'; draw it as"),
    "two points": (
        dict(objects=[polygon("cat", OUTLINE[:2])]),
        r"is damaged \(fewer than 3 points",
    ),
    "far": (
        dict(objects=[polygon("cat", [*OUTLINE, [9, 10**9]])]),
        r"damaged \(points far outside",
    ),
    "nan": (dict(objects=[polygon("cat", [*OUTLINE, [9, float("nan")]])]), r"points far outside"),
    "a hole": (dict(objects=[polygon("cat", OUTLINE, [[1]])]), r"a.jpg.json: object 1 .*damaged"),
    "no data": (dict(objects=[thing("cat", "bitmap")]), r"is damaged; draw it again"),
    "a bomb": (
        dict(objects=[thing("cat", "bitmap", bitmap=dict(data=BOMB, origin=[0, 0]))]),
        r"damaged \(more than its picture can have\)",
    ),
    "wide": (dict(objects=[WIDE]), r"damaged \(not inside its picture\)"),
    "outside": (dict(objects=[bitmap("cat", DISC, (-1, 0))]), r"not inside its picture"),
    "a size": (dict(size=dict(height=40, width=30)), r"a label of 30x40 for an image of 40x30"),
    "no size": (dict(size={}), r"not an annotation of Supervisely's \(KeyError\('height'\)\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_by_name(tmp_path, fault):
    changes, message = FAULTS[fault]
    project(tmp_path / "in", ["ds0/b"])
    refusal(project(tmp_path / "in", ["ds0/a"], **changes), message)


def test_a_project_without_its_meta_or_a_picture_is_refused(tmp_path):
    folder = project(tmp_path / "in", objects=[rectangle("cat", [1, 1], [9, 9])])
    (folder / "ds0/img/b.jpg").rename(tmp_path / "b.jpg")
    refusal(folder, r"b.jpg.json: no image b.jpg; .*--images DIR")
    (folder / "meta.json").write_text("[]")
    refusal(folder, r"meta.json: a class without title or color")
    (folder / "meta.json").unlink()
    refusal(folder, r"ds0/ann: no meta.json above it")


def test_a_project_may_lie_deeper_and_have_drawn_masks(tmp_path):
    """Which are no test pictures; and each project's classes are of its own file."""
    box = [rectangle("cat", [1, 1], [9, 9])]
    folder = project(tmp_path / "in/one", ["train/a", "val/b"], box)
    for place in ("masks_machine", "masks_human"):
        image(folder / f"test/{place}/c.png")
    (tmp_path / "in/README.md").write_text("")
    made = prepare(tmp_path / "in")
    assert made.splits == dict(train="a", val="b") and made.classes[1:] == ["dog", "cat"]
    other = project(tmp_path / "in/two", ["train/d"], [rectangle("ant", [1, 1], [9, 9])])
    meta = dict(classes=[dict(title="ant", color="#000001")])
    (other / "meta.json").write_text(json.dumps(meta))
    assert prepare(tmp_path / "in", "both").classes[1:] == ["dog", "cat", "ant"]
