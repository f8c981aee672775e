"""Each tool's export from the folder to predictions, by the commands that a user gives."""

import base64
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare import test_own_cvat as cvat_xml
from prepare.own_pictures import SIZE
from prepare.test_own_layouts import CLASSES, LAYOUTS, NAMES, picture, saved, text
from tools.running import ran

# Objects drawn one after another: class, left, top, right, bottom; right and bottom are outside.
OBJECTS = [("road", 4, 3, 30, 20), ("tree", 20, 10, 38, 28)]
SPLIT = dict(zip(NAMES, ("train", "train", "val", "test"), strict=True))
HEIGHT, WIDTH = SIZE


def drawn() -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    for name, left, top, right, bottom in OBJECTS:
        label[top:bottom, left:right] = CLASSES.index(name)
    return label


def labelme(root: Path) -> dict:
    for name, split in SPLIT.items():
        picture(root / f"{split}/{name}.jpg", name)
        shapes = [
            dict(label=label, shape_type="rectangle", points=[[x, y], [right - 1, bottom - 1]])
            for label, x, y, right, bottom in OBJECTS
        ]
        document = dict(shapes=shapes, imagePath=f"C:\\shots\\{name}.jpg", imageData=None)
        text(root / f"{split}/{name}.json", json.dumps(document))
    return {}


def coco(root: Path) -> dict:
    categories = [dict(id=0, name="things"), dict(id=3, name="road"), dict(id=9, name="tree")]
    for category in categories[1:]:
        category["supercategory"] = "things"
    for split in ("train", "valid", "test"):
        names = [name for name in NAMES if SPLIT[name] == {"valid": "val"}.get(split, split)]
        images, annotations = [], []
        for name in names:
            picture(root / f"{split}/{name}.jpg", name)
            images.append(dict(id=len(images), file_name=f"{name}.jpg", width=WIDTH, height=HEIGHT))
            for number, (label, x, y, right, bottom) in enumerate(OBJECTS):
                polygon = [x, y, right, y, right, bottom, x, bottom]
                annotations.append(
                    dict(
                        id=len(annotations),
                        image_id=images[-1]["id"],
                        category_id=categories[number + 1]["id"],
                        segmentation=[polygon],
                        iscrowd=0,
                    )
                )
                assert categories[number + 1]["name"] == label
        document = dict(images=images, annotations=annotations, categories=categories)
        text(root / f"{split}/_annotations.coco.json", json.dumps(document))
    return {}


def cvat(root: Path) -> dict:
    """The first object lies first by its z_order alone."""
    (road, left, top, right, bottom), (tree, x, y, x2, y2) = OBJECTS
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    shapes = [
        cvat_xml.rle(tree, np.ones((y2 - y, x2 - x), bool), x, y, 1),
        cvat_xml.polygon(road, corners, 0),
    ]
    for name, split in SPLIT.items():
        picture(root / f"{split}/images/{name}.jpg", name)
    for split in set(SPLIT.values()):
        pictures = {f"{name}.jpg": shapes for name in NAMES if SPLIT[name] == split}
        labels = dict.fromkeys(CLASSES[1:], "#ff0000")
        cvat_xml.cvat(root / f"{split}/annotations.xml", pictures, labels=labels)
    return {}


def yolo(root: Path) -> dict:
    names = CLASSES[1:]
    for name, split in SPLIT.items():
        picture(root / f"images/{split}/{name}.jpg", name)
        lines = []
        for label, x, y, right, bottom in OBJECTS:
            corners = [(x, y), (right - 1, y), (right - 1, bottom - 1), (x, bottom - 1)]
            # Ultralytics cuts the products off; half a pixel keeps them away from whole numbers.
            points = [((px + 0.5) / WIDTH, (py + 0.5) / HEIGHT) for px, py in corners]
            numbers = " ".join(f"{part:.6f}" for point in points for part in point)
            lines.append(f"{names.index(label)} {numbers}")
        text(root / f"labels/{split}/{name}.txt", *lines)
    text(root / "data.yaml", "train: images/train", "val: images/val", "test: images/test", "nc: 2")
    with (root / "data.yaml").open("a") as file:
        file.write(f"names: {names}\n")
    return {}


def supervisely(root: Path) -> dict:
    classes = [
        dict(title=name, shape=shape, color="#FF0000")
        for name, shape in zip(CLASSES[1:], ("polygon", "bitmap"), strict=True)
    ]
    text(root / "meta.json", json.dumps(dict(classes=classes, tags=[])))
    (_, left, top, right, bottom), (_, x, y, x2, y2) = OBJECTS
    corners = [[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]
    file = io.BytesIO()
    Image.new("1", (x2 - x, y2 - y), 1).save(file, "PNG")
    data = base64.b64encode(zlib.compress(file.getvalue())).decode()
    for name, split in SPLIT.items():
        picture(root / f"{split}/img/{name}.jpg", name)
        objects = [
            dict(
                classTitle="road",
                geometryType="polygon",
                points=dict(exterior=corners, interior=[]),
            ),
            dict(classTitle="tree", geometryType="bitmap", bitmap=dict(data=data, origin=[x, y])),
        ]
        document = dict(size=dict(height=HEIGHT, width=WIDTH), objects=objects, tags=[])
        text(root / f"{split}/ann/{name}.jpg.json", json.dumps(document))
    return {}


def label_studio(root: Path) -> dict:
    tasks = []
    for number, name in enumerate(NAMES, start=1):
        picture(root.parent / f"pictures/{SPLIT[name]}/{name}.jpg", name)
        tasks.append(dict(id=number, data=dict(image=f"/data/upload/1/{name}.jpg")))
        for layer, (label, left, top, right, bottom) in enumerate(OBJECTS):
            mask = np.zeros(SIZE, np.uint8)
            mask[top:bottom, left:right] = 255
            saved(root / f"task-{number}-annotation-7-by-1-tag-{label}-{layer}.png", mask)
    text(root / "export.json", json.dumps(tasks))
    return {"images": root.parent / "pictures"}


def cityscapes(root: Path) -> dict:
    ids = np.array([7, 8, 21], np.uint8)
    for name, split in SPLIT.items():
        stem = f"ulm_00000{name[-1]}_000019"
        picture(root / f"leftImg8bit/{split}/ulm/{stem}_leftImg8bit.png", name)
        saved(root / f"gtFine/{split}/ulm/{stem}_gtFine_labelIds.png", ids[drawn()])
    return {}


DRAWN = dict(
    labelme=labelme,
    coco=coco,
    cvat=cvat,
    yolo=yolo,
    supervisely=supervisely,
    label_studio=label_studio,
)
EXPORTS = DRAWN | LAYOUTS | dict(cityscapes=cityscapes)
QUICK = "coco"
TINY = """
_base_ = "{config}"
model = dict(backbone=dict(depth=11, base_channels=2, fc_channels=8))
model["decode_head"] = dict(in_channels=(8, 16, 8))
model["data_preprocessor"] = dict(size=(32, 32))
crop_size = (32, 32)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
train_cfg = dict(max_iters=2, val_interval=2)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=2), logger=dict(interval=1))
"""


@pytest.mark.parametrize(
    "export",
    [name if name == QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPORTS],
)
def test_an_export_is_trained_on_scored_and_predicted(tmp_path, export):
    options = EXPORTS[export](tmp_path / "in")
    given = [word for option, value in options.items() for word in (f"--{option}", value)]
    said = ran("prepare_data.py own in --root made", *given, folder=tmp_path).stdout
    assert "train 2, val 1, test 1 images" in said
    if export in DRAWN:
        for path in (tmp_path / "made/SegmentationClass").iterdir():
            assert np.array_equal(np.asarray(Image.open(path)), drawn()), path.name
    (config,) = (tmp_path / "made").glob("*scratch.py")
    (tmp_path / "tiny.py").write_text(TINY.format(config=config))
    said = ran("train.py tiny.py", folder=tmp_path).stdout
    assert "Iter(train) [2/2]" in said
    said = ran("test.py tiny.py work_dirs/tiny --split test", folder=tmp_path).stdout
    assert "Done: aAcc" in said
    (name,) = (tmp_path / "made/ImageSets/Segmentation/test.txt").read_text().split()
    image = next((tmp_path / "made/JPEGImages").glob(f"{name}.*"))
    ran("predict.py tiny.py work_dirs/tiny", image, "--out", "out", folder=tmp_path)
    (label,) = (tmp_path / "out/labels").iterdir()
    assert Image.open(label).size == (WIDTH, HEIGHT)
