"""CVAT's XML: what polygons, masks and ellipses cover and in which order, and what is refused."""

from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import pytest
from PIL import Image
from prepare.own_pictures import SIZE, image, prepare, refusal
from pycocotools import mask

HEIGHT, WIDTH = SIZE
LABELS = {"dog": "#0a14ff", "cat": "#208000", "unused": "#010203"}
BOX = [(0, 0), (4, 0), (4, 5), (0, 5)]
DISC = np.hypot(*(np.indices((15, 17)) - 7)) < 6.5


def element(tag: str, label: str, z_order: int | None = 0, **attributes) -> str:
    order = {} if z_order is None else dict(z_order=z_order)
    named = dict(label=label, source="manual", occluded=0) | attributes | order
    text = " ".join(f"{key}={quoteattr(str(value))}" for key, value in named.items())
    return f'    <{tag} {text}>\n      <attribute name="by">me</attribute>\n    </{tag}>'


def polygon(label: str, points, z_order: int | None = 0) -> str:
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return element("polygon", label, z_order, points=text)


def rle(label: str, pixels: np.ndarray, left: int, top: int, z_order=0, **changes) -> str:
    """A mask whose box, [h, w] bool, begins at left and top."""
    runs = [(value, len(list(group))) for value, group in groupby(pixels.ravel().tolist())]
    counts = [*([0] if runs[0][0] else []), *(count for _, count in runs)]
    height, width = pixels.shape
    box = dict(left=left, top=top, width=width, height=height)
    text = ", ".join(map(str, counts))
    return element("mask", label, z_order, **(dict(rle=text) | box | changes))


def ellipse(label: str, z_order: int = 0, **numbers) -> str:
    return element("ellipse", label, z_order, **numbers)


def cvat(file: Path, pictures: dict, owner="task", labels=LABELS, attributes=(), head="") -> Path:
    """The export of elements of each picture, by its name; a label may lack a colour."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', head, "<annotations>"]
    lines += ["  <version>1.1</version>", f"  <meta><{owner}><id>7</id><name>dog</name><labels>"]
    for label, colour in labels.items():
        more = f"<color>{colour}</color><type>any</type>" if colour else ""
        inner = "<attributes><attribute><name>by</name></attribute></attributes>"
        lines.append(f"    <label><name>{label}</name>{more}{inner}</label>")
    lines.append(f"  </labels></{owner}><dumped>2026</dumped></meta>")
    for number, (name, elements) in enumerate(pictures.items()):
        more = dict(width=WIDTH, height=HEIGHT) | dict(attributes)
        text = " ".join(f'{key}="{value}"' for key, value in more.items())
        lines += [f'  <image id="{number}" name="{name}" {text}>', *elements, "  </image>"]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(filter(None, [*lines, "</annotations>\n"])))
    return file


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in "ab":
        image(tmp_path / f"in/images/{name}.jpg")
    return tmp_path / "in"


def covered(points) -> np.ndarray:
    flat = [[round(float(number), 2) for point in points for number in point]]
    return mask.decode(mask.merge(mask.frPyObjects(flat, *SIZE))).astype(bool)


def random_objects(chance: np.random.Generator, count: int) -> list[tuple[str, np.ndarray, str]]:
    """The label of each, its pixels, and the element to export, for a z_order to be filled in."""
    objects = []
    for number in range(count):
        label = list(LABELS)[chance.integers(3)]
        kind = number % 3
        if kind == 0:
            points = chance.uniform((-3, -3), (WIDTH + 3, HEIGHT + 3), (5, 2))
            objects.append((label, covered(points), polygon(label, points, None)))
        elif kind == 1:
            height, width = chance.integers(1, 20, 2)
            top, left = chance.integers((0, 0), (HEIGHT - height + 1, WIDTH - width + 1))
            part = chance.random((height, width)) < 0.6
            pixels = np.zeros(SIZE, bool)
            pixels[top : top + height, left : left + width] = part
            objects.append((label, pixels, rle(label, part, left, top, None)))
        else:
            x, y, rx, ry = chance.uniform((0, 0, 1, 1), (WIDTH, HEIGHT, 15, 15)).round(2)
            turn = round(float(chance.uniform(0, 360)), 2)
            box = ((round(x), round(y)), (2 * round(rx), 2 * round(ry)), round(turn))
            pixels = cv2.ellipse(np.zeros(SIZE, np.uint8), box, 1, -1).astype(bool)
            numbers = dict(cx=x, cy=y, rx=rx, ry=ry, rotation=turn)
            objects.append((label, pixels, ellipse(label, None, **numbers)))
    return objects


def painted(objects) -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    for name, pixels, _ in objects:
        label[pixels] = 1 + list(LABELS).index(name)
    return label


def test_objects_lie_in_the_order_of_z_order_then_of_the_file(folder):
    """The same drawn in the order of the file differs."""
    chance, pictures, labels = np.random.default_rng(0), {}, {}
    for name in "ab":
        objects = random_objects(chance, 15)
        orders = chance.integers(-1, 3, len(objects)).tolist()
        pictures[f"{name}.jpg"] = [
            text.replace(">", f' z_order="{order}">', 1)
            for (_, _, text), order in zip(objects, orders, strict=True)
        ]
        drawn = [objects[i] for i in sorted(range(len(objects)), key=lambda i: orders[i])]
        labels[name] = painted(drawn)
        assert (labels[name] != painted(objects)).sum() > 20
    cvat(folder / "annotations.xml", pictures)
    made = prepare(folder)
    for name, label in labels.items():
        assert np.array_equal(made.label(name), label)
    assert "CVAT for images, 1 files, objects in the order of z_order" in made.layout


def test_every_label_is_a_class_with_its_colour(folder):
    """In the order of the file; without colours, of old versions, VOC's are taken."""
    pictures = {"a.jpg": [polygon("cat", BOX)], "b.jpg": []}
    cvat(folder / "annotations.xml", pictures, owner="project")
    made = prepare(folder)
    assert made.classes == ["background", *LABELS]
    assert (made.label("a")[:5, :4] == 2).all() and (made.label("a") > 0).sum() == 20
    assert not made.label("b").any()
    assert any("1 images without a polygon, mask or ellipse are all back" in n for n in made.notes)
    palette = Image.open(made.root / "SegmentationClass/a.png").getpalette()
    assert palette[3:12] == [10, 20, 255, 32, 128, 0, 1, 2, 3]
    cvat(folder / "annotations.xml", pictures, labels=dict.fromkeys(LABELS))
    plain = Image.open(prepare(folder, "plain").root / "SegmentationClass/a.png").getpalette()
    assert plain[3:9] == [128, 0, 0, 0, 128, 0]


def test_a_mask_and_an_ellipse_cover_what_they_should(folder):
    """Without their tools: a mask pixel by pixel, and an ellipse by its equation, up to its rim."""
    thin = ellipse("dog", cx=20.2, cy=14.7, rx=16.1, ry=6.4, rotation="30.00")
    pictures = {"a.jpg": [rle("cat", DISC, 20, 11)], "b.jpg": [thin]}
    cvat(folder / "annotations.xml", pictures)
    made = prepare(folder)
    expected = np.zeros(SIZE, np.uint8)
    expected[11:26, 20:37][DISC] = 2
    assert np.array_equal(made.label("a"), expected)
    y, x = np.indices(SIZE) - np.array([15, 20])[:, None, None]
    angle = np.radians(30)  # clockwise, as y points down
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = (along / 15) ** 2 + (across / 5) ** 2 < 1
    near = (along / 17) ** 2 + (across / 7) ** 2 < 1
    label = made.label("b")
    assert inside.sum() > 200 and (label[inside] == 1).all() and not label[~near].any()


def test_what_is_not_drawn_is_counted(folder):
    box = element("box", "dog", xtl=1, ytl=2, xbr=9, ybr=8, rotation=10)
    line, points = (element(tag, "cat", points="1,2;3,4") for tag in ("polyline", "points"))
    skeleton = f'<skeleton label="man" z_order="0">{points}</skeleton>'
    tag = '<tag label="dog" source="manual"></tag>'
    others = [box, box, line, points, skeleton, tag]
    cvat(folder / "annotations.xml", {"a.jpg": [*others, polygon("cat", BOX)], "b.jpg": [box]})
    made = prepare(folder)
    assert (made.label("a") > 0).sum() == 20 and not made.label("b").any()
    said = "3 boxes, 1 points, 1 polylines, 1 skeletons, 1 tags are left out, as only"
    assert any(said in note for note in made.notes)
    cvat(folder / "annotations.xml", {"a.jpg": [box], "b.jpg": [tag]})
    refusal(folder, r"in: 1 boxes, 1 tags in CVAT's XML, but no polygon, mask or ellipse; outline")
    cvat(folder / "annotations.xml", {})
    refusal(folder, r"nothing in CVAT's XML, but no polygon")


def test_labels_that_no_outline_can_have_are_no_classes(folder):
    file = cvat(folder / "annotations.xml", {"a.jpg": [polygon("cat", BOX)], "b.jpg": []})
    others = "<label><name>knee</name><type>points</type><parent>man</parent></label>"
    for kind in ("tag", "rectangle", "skeleton", "mask"):
        others += f"<label><name>{kind}s</name><type>{kind}</type></label>"
    file.write_text(file.read_text().replace("</labels>", f"{others}</labels>"))
    assert prepare(folder).classes == ["background", *LABELS, "masks"]


def test_a_projects_subsets_are_the_split_and_have_pictures_of_one_name(tmp_path):
    root = tmp_path / "in"
    for place in ("Train/day", "Train/night", "Validation/day"):
        image(root / f"images/{place}/a.jpg")
    train = {f"{place}/a.jpg": [polygon("cat", BOX)] for place in ("day", "night")}
    cvat(root / "annotations.xml", train, "project", attributes=dict(subset="Train", task_id=1))
    val = {"day/a.jpg": [polygon("dog", BOX)]}
    labels = {"tree": "#111111"} | LABELS
    options = dict(labels=labels, attributes=dict(subset="Validation"))
    cvat(root / "more.xml", val, "project", **options)
    made = prepare(root)
    assert made.listed("train") == ["images_Train_day_a", "images_Train_night_a"]
    assert made.listed("val") == ["images_Validation_day_a"]
    assert made.classes == ["background", *LABELS, "tree"]
    assert made.label("images_Validation_day_a")[0, 0] == 1


def test_pictures_may_lie_elsewhere_and_need_no_suffix(tmp_path):
    """As those of an export without images, and frames of a video."""
    for name in ("sub/a.jpg", "frame_000000.png", "c.jpg"):
        image(tmp_path / "photos" / name)
    pictures = {"sub/a.jpg": [polygon("cat", BOX)], "frame_000000": [polygon("dog", BOX)]}
    cvat(tmp_path / "in/annotations.xml", pictures)
    refusal(tmp_path / "in", r"annotations.xml: no image sub/a.jpg; .*--images DIR")
    made = prepare(tmp_path / "in", images=tmp_path / "photos")
    assert made.label("a")[0, 0] == 2 and made.label("frame_000000")[0, 0] == 1


def runs(text: str, **box) -> str:
    return rle("cat", DISC, 1, 2, rle=text, **box)


FAULTS = {
    "a label": (polygon("cow", BOX), r" is a 'cow', which is none of the labels"),
    "a kind": (element("heart", "cat"), r"is a 'heart'; draw it as polygon, mask"),
    "an order": (polygon("cat", BOX, "x"), r"is damaged \(invalid literal"),
    "two points": (polygon("cat", BOX[:2]), r"has a polygon that is not three"),
    "no points": (element("polygon", "cat"), r"is damaged \(no 'points'\); draw it again, or"),
    "letters": (element("polygon", "cat", points="1,2;x,y;3,4"), r"damaged \(could not convert"),
    "threes": (element("polygon", "cat", points="1,2,3;4,5,6"), r"\(points that are no pairs of"),
    "far": (polygon("cat", [*BOX, (1e9, 1)]), r"has points far outside its picture of 40x30"),
    "nan": (polygon("cat", [*BOX, (float("nan"), 1)]), r"has points far outside"),
    "short runs": (runs("1, 2"), r"\(run lengths that do not fill its box\)"),
    "runs below 0": (runs(f"{15 * 17 + 1}, -1"), r"do not fill its box"),
    "long runs": (runs("0, 999999999999999999999999"), r"do not fill its box"),
    "no commas": (runs("1" * 5000), r"\(Exceeds the limit|\(invalid literal"),
    "outside": (rle("cat", DISC, 24, 2), r"damaged \(not inside its picture\)"),
    "a large box": (runs("0, 1", width=10**9, height=10**9), r"not inside its picture"),
    "an empty box": (runs("0", width=0), r"not inside its picture"),
    "no radius": (ellipse("cat", cx=1, cy=2, rx=3), r"damaged \(no 'ry'\)"),
    "a large radius": (ellipse("cat", cx=1, cy=2, rx=3, ry=1e9), r"far outside its picture"),
    "a radius below 0": (ellipse("cat", cx=1, cy=2, rx=3, ry=-1), r"far outside its picture"),
    "no centre": (ellipse("cat", cx="nan", cy=2, rx=3, ry=4), r"far outside its picture"),
    "a turn": (ellipse("cat", cx=1, cy=2, rx=3, ry=4, rotation="inf"), r"damaged \(no rotation"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_by_name(folder, fault):
    shape, message = FAULTS[fault]
    cvat(folder / "annotations.xml", {"b.jpg": [polygon("cat", BOX)], "a.jpg": [shape]})
    refusal(folder, rf"annotations.xml: image 'a.jpg', object 1.*{message}")


ENTITIES = '<!DOCTYPE x [<!ENTITY a "dog"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "/etc/hostname">]>'
HOSTILE = {
    "entities": (lambda text: text, ENTITIES, r"cannot be read \(it has a DOCTYPE\); export it"),
    "cut": (lambda text: text[:-30], "", r"cannot be read \(no element found|unclosed token"),
    "an entity": (lambda text: text.replace("dog", "&dog;"), "", r"\(undefined entity"),
    "an encoding": (lambda text: text.replace("utf-8", "x-y"), "", r"\(unknown encoding|unknown"),
    "no width": (
        lambda text: text.replace("width", "breadth"),
        "",
        r"image 'a.jpg' cannot be read \(no 'width'\); export it again",
    ),
    "no name": (
        lambda text: text.replace('name="a.jpg"', ""),
        "",
        r"image '0' cannot be read \(no 'name'\)",
    ),
    "a size": (
        lambda text: text.replace('width="40" height="30"', 'width="30" height="40"'),
        "",
        r"annotations.xml: image '[ab].jpg': a label of 30x40 for an image of 40x30; .*EXIF",
    ),
    "twice": (
        lambda text: text.replace("b.jpg", "./a.jpg"),
        "",
        r"image './a.jpg': .*image 'a.jpg' would be .*images/a.jpg, too; add the image",
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_damaged_or_hostile_file_is_refused(folder, fault):
    change, head, message = HOSTILE[fault]
    pictures = {"a.jpg": [polygon("cat", BOX)], "b.jpg": [polygon("dog", BOX)]}
    file = cvat(folder / "annotations.xml", pictures, head=head)
    file.write_text(change(file.read_text()))
    refusal(folder, message)


def test_tracks_are_refused_with_the_export_to_take(folder):
    file = cvat(folder / "annotations.xml", {})
    track = '<track id="0" label="cat"><polygon frame="0" points="1,2;3,4;9,9"></polygon></track>'
    file.write_text(file.read_text().replace("</annotations>", f"{track}\n</annotations>"))
    refusal(folder, r'annotations.xml: "CVAT for video", .*; export it as "CVAT for images 1.1"')


def test_other_xml_is_left_alone(folder):
    (folder / "annotations.xml").write_text("<annotation><version>1.1</version></annotation>")
    refusal(folder, r"no labelled pictures; .*XML files usually hold boxes")
