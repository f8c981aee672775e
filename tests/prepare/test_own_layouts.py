"""Exports with label pictures in the very layouts of the tools that write them."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare.own_pictures import SIZE, labelme, prepare, refusal

from fcn_plugin.errors import UserError

NAMES = ("a_01", "b_02", "c_03", "d_04")
INDEX = (np.arange(SIZE[0])[:, None] // 10 + np.arange(SIZE[1]) // 20).astype(np.uint8) % 3
COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
CLASSES = ["background", "road", "tree"]
NAMED = list(zip(CLASSES, COLOURS.tolist(), strict=True))


def label_of(name: str) -> np.ndarray:
    """The label of a picture: another one for each name."""
    return np.roll(INDEX, int(name[-1]), axis=1)


def picture(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(int(name[-1])).integers(0, 255, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def saved(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def cvat_masks(root: Path) -> dict:
    """CVAT's "Segmentation mask 1.1" of a folder that was uploaded, with a list a subset."""
    for name in NAMES:
        picture(root / f"JPEGImages/street/{name}.jpg", name)
        saved(root / f"SegmentationClass/street/{name}.png", COLOURS[label_of(name)])
        saved(root / f"SegmentationObject/street/{name}.png", COLOURS[label_of(name)])
    lists = {"Train": NAMES[:2], "Validation": NAMES[2:3], "Test": NAMES[3:]}
    for split, names in lists.items():
        text(root / f"ImageSets/Segmentation/{split}.txt", *(f"street/{name}" for name in names))
    rows = [
        f"{name}:{','.join(map(str, rgb))}::"
        for name, rgb in zip(CLASSES, COLOURS.tolist(), strict=True)
    ]
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions", *rows)
    return {}


def cvat_without_pictures(root: Path) -> dict:
    cvat_masks(root)
    (root / "JPEGImages").rename(root.parent / "pictures")
    return {"images": root.parent / "pictures"}


def camvid(root: Path, subsets=("Train", "Validation", "Test")) -> dict:
    """CVAT's "CamVid 1.0", with two paths a line and colours in front of names."""
    for name, subset in zip(NAMES, (subsets[0], *subsets), strict=True):
        picture(root / f"{subset}/{name}.png", name)
        saved(root / f"{subset}annot/{name}.png", COLOURS[label_of(name)])
        with (root / f"{subset}.txt").open("a") as file:
            file.write(f"/{subset}/{name}.png /{subset}annot/{name}.png\n")
    rows = [
        f"{r} {g} {b} {name}" for name, (r, g, b) in zip(CLASSES, COLOURS.tolist(), strict=True)
    ]
    text(root / "label_colors.txt", *rows)
    return {}


def roboflow(root: Path) -> dict:
    for name, split in zip(NAMES, ("train", "train", "valid", "test"), strict=True):
        picture(root / f"{split}/{name}_jpg.rf.0f3a.jpg", name)
        saved(root / f"{split}/{name}_jpg.rf.0f3a_mask.png", label_of(name))
        rows = [f"{value}, {name}" for value, name in enumerate(CLASSES)]
        text(root / f"{split}/_classes.csv", "Pixel Value, Class", *rows)
    return {}


def split_folders(image: str, label: str, classes="classes.txt"):
    """Folders by patterns with SPLIT and NAME."""

    def write(root: Path) -> dict:
        for name, split in zip(NAMES, ("train", "train", "val", "test"), strict=True):
            picture(root / image.replace("SPLIT", split).replace("NAME", name), name)
            saved(root / label.replace("SPLIT", split).replace("NAME", name), label_of(name))
        text(root / classes, *CLASSES)
        return {}

    return write


def with_table(name: str, content: str):
    """Colour masks with a table; the split in lists."""

    def write(root: Path) -> dict:
        for picture_name in NAMES:
            picture(root / f"images/{picture_name}.jpg", picture_name)
            saved(root / f"labels/{picture_name}.png", COLOURS[label_of(picture_name)])
        for split, names in dict(train=NAMES[:2], val=NAMES[2:3], test=NAMES[3:]).items():
            text(root / f"{split}.txt", *names)
        text(root / name, content)
        return {}

    return write


JSON_ROWS = [dict(name=name, color=colour) for name, colour in NAMED]
README = (
    "# Streets\n\nClasses and colours:\n\n    background = 0:0:0\n    road = 250:50:83\n    tree = "
)
LAYOUTS = {
    "CVAT masks": cvat_masks,
    "CVAT masks, pictures elsewhere": cvat_without_pictures,
    "CVAT CamVid": camvid,
    "Roboflow masks": roboflow,
    "mmseg": split_folders("img_dir/SPLIT/NAME.jpg", "ann_dir/SPLIT/NAME.png"),
    "images/train": split_folders("images/SPLIT/NAME.jpg", "masks/SPLIT/NAME.png"),
    "COCO-Stuff": split_folders("images/SPLIT2017/NAME.jpg", "annotations/SPLIT2017/NAME.png"),
    "train/images": split_folders("SPLIT/images/NAME.jpg", "SPLIT/annotations/NAME.png"),
    "suffix mask": split_folders("SPLIT/NAME.jpg", "SPLIT/NAME_mask.png"),
    "suffix label": split_folders("images/SPLIT/NAME.png", "labels/SPLIT/NAME_label.png"),
    "suffix gt": split_folders("SPLIT/images/NAME_image.jpg", "SPLIT/gt/NAME_gt.png"),
    "suffix seg": split_folders("SPLIT/NAME.png", "SPLIT/NAME_seg.png", "labels.txt"),
    "csv": with_table(
        "class_dict.csv", "name,r,g,b\nbackground,0,0,0\nroad,250,50,83\ntree,51,221,255"
    ),
    "colormap": with_table("colormap.txt", "background 0 0 0\nroad 250 50 83\ntree 51 221 255"),
    "json list": with_table("classes.json", json.dumps(JSON_ROWS)),
    "json hex": with_table(
        "palette.json", '{"background": "#000000", "road": "#fa3253", "tree": "#33ddff"}'
    ),
    "images and masks in one folder": split_folders(
        "images/SPLIT/NAME.jpg", "images/SPLIT/NAME_mask.png"
    ),
    "readme": with_table("README.md", f"{README}51:221:255\n\nCite us.\n"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_export_is_read_with_its_split(tmp_path, layout):
    options = LAYOUTS[layout](tmp_path / "in")
    made = prepare(tmp_path / "in", **options)
    assert made.classes == CLASSES
    names = {split: made.listed(split) for split in ("train", "val", "test")}
    assert [len(split) for split in names.values()] == [2, 1, 1]
    for listed, name in zip((*names["train"], *names["val"], *names["test"]), NAMES, strict=True):
        assert listed.startswith(name)
        assert np.array_equal(made.label(listed), label_of(name))
        image = next((made.root / "JPEGImages").glob(f"{listed}.*"))
        assert np.asarray(Image.open(image)).shape == (*SIZE, 3)


def test_a_zip_is_read_as_its_folder_and_nothing_stays(tmp_path):
    roboflow(tmp_path / "in/export")
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "in")
    made, zipped = prepare(tmp_path / "in"), prepare(tmp_path / "export.zip", "zipped")
    for name in made.listed("train"):
        assert np.array_equal(made.label(name), zipped.label(name))
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out", "zipped", "export.zip"}
    assert prepare(tmp_path / "export.zip", "zipped").lines == zipped.lines  # is left as it is
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("../../out/classes.txt", "x")
    refusal(tmp_path / "evil.zip", "leads out of the folder")


CITY_IDS = np.array([7, 8, 33, 0, 34 - 1, 4], np.uint8)  # road, sidewalk, bicycle and void ones


@pytest.mark.parametrize("train_ids", [False, True])
def test_cityscapes_ids_and_train_ids(tmp_path, train_ids):
    meaning = np.array([0, 1, 18, 255, 18, 255], np.uint8)
    parts = np.arange(1200).reshape(SIZE) % 6
    for split, city in (("train", "aachen"), ("val", "ulm"), ("test", "bonn")):
        stem = f"{city}_000000_000019"
        picture(tmp_path / f"in/leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", "1")
        labels = {"TrainIds": meaning} if train_ids else {"Ids": CITY_IDS, "TrainIds": meaning}
        for kind, values in labels.items() if split != "test" else ():
            path = tmp_path / f"in/gtFine/{split}/{city}/{stem}_gtFine_label{kind}.png"
            saved(path, values[parts])
    refusal(tmp_path / "in", "Cityscapes has classes of its own", classes_file=tmp_path / "a")
    made = prepare(tmp_path / "in", renamed={"sidewalk": "sidewalk"})
    assert made.label("ulm_000000_000019").tolist() == meaning[parts].tolist()
    assert made.listed("test") == ["bonn_000000_000019"] and len(made.classes) >= 19
    first = tmp_path / "in/leftImg8bit/train/aachen"
    first.rename(first.parents[1] / "val/aachen")
    refusal(tmp_path / "in", r"gtFine/train/.*Ids.png: no image aachen.* is in another folder")


@pytest.mark.parametrize(
    ("values", "classes", "options", "expected", "names"),
    [
        ((0, 255, 255), None, {}, (0, 1, 1), "background object"),
        ((0, 1, 255), None, {}, (0, 1, 255), "background object"),
        ((0, 255, 0), "crack", {}, (0, 1, 0), "background crack"),
        ((0, 1, 1), "crack", {}, (0, 1, 1), "background crack"),
        ((1, 2, 3), "road tree sky", {}, (0, 1, 2), "road tree sky"),
        ((0, 2, 3), "road tree sky", {}, (0, 2, 3), "background road tree sky"),
        ((0, 1, 254), "road tree", {"void": (254,)}, (0, 1, 255), "road tree"),
        ((0, 1, 2), "road tree", {"void": (0,)}, (255, 0, 1), "road tree"),
        ((0, 1, 2), "road tree sky", {"renamed": {"sky": "tree"}}, (0, 1, 1), "road tree"),
        ((0, 1, 2), "road tree sky", {"renamed": {"sky": "__ignore__"}}, (0, 1, 255), "road tree"),
        ((0, 1, 2), "a b c", {"renamed": {"*": "rest", "b": "b"}}, (0, 1, 0), "rest b"),
    ],
)
def test_values_are_taken_for_what_they_are(tmp_path, values, classes, options, expected, names):
    parts = np.arange(1200).reshape(SIZE) % 3
    for name in NAMES[:2]:
        picture(tmp_path / f"in/images/{name}.jpg", name)
        saved(tmp_path / f"in/masks/{name}.png", np.array(values, np.uint8)[parts])
    if classes:
        text(tmp_path / "in/classes.txt", *classes.split())
    made = prepare(tmp_path / "in", **options)
    assert made.label(NAMES[0]).tolist() == np.array(expected)[parts].tolist()
    assert made.classes == names.split()


def test_masks_of_grey_colours_are_values_and_others_need_a_table(tmp_path):
    parts = np.arange(1200).reshape(SIZE) % 2
    for name in NAMES[:2]:
        picture(tmp_path / f"in/images/{name}.jpg", name)
        saved(tmp_path / f"in/masks/{name}.png", np.array([[0] * 3, [255] * 3], np.uint8)[parts])
    made = prepare(tmp_path / "in")
    assert made.label(NAMES[0]).tolist() == parts.tolist()
    saved(tmp_path / "in/masks/a_01.png", np.array([[0] * 3, [255, 0, 0]], np.uint8)[parts])
    refusal(tmp_path / "in", "a_01.png: label in colour")
    Image.open(tmp_path / "in/masks/a_01.png").save(tmp_path / "in/masks/a_01.jpg")
    (tmp_path / "in/masks/a_01.png").unlink()
    refusal(tmp_path / "in", "a_01.jpg: a label saved as JPEG, which blurs it")


def test_void_of_minus_one_is_left_out(tmp_path):
    parts = np.arange(1200).reshape(SIZE) % 3
    for name in NAMES[:2]:
        picture(tmp_path / f"in/images/{name}.jpg", name)
        path = tmp_path / f"in/masks/{name}.tif"
        saved(path, np.array([-1, 0, 1], np.int32)[parts])
    text(tmp_path / "in/classes.txt", *CLASSES[:2])
    made = prepare(tmp_path / "in", void=(-1,))
    assert made.label(NAMES[0]).tolist() == np.array([255, 0, 1])[parts].tolist()
    refusal(tmp_path / "in", r"label values -1 \(400 px\).* give --void VALUE")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.csv", "class\nbackground\nroad\ntree\n"),
        ("classes.txt", "# mine\nbackground\nroad\ntree\n"),
        ("classes.txt", "__ignore__\n_background_\nroad\ntree\n"),  # labelme's -1, 0, 1, 2
        ("labels.json", '{"2": "tree", "0": "background", "1": "road"}'),
        ("labels.json", '[{"name": "tree", "id": "2"}, {"name": "road", "id": 1}, "background"]'),
    ],
)
def test_a_list_of_classes_may_be_written_in_many_ways(tmp_path, file, content):
    split_folders("SPLIT/images/NAME.jpg", "SPLIT/masks/NAME.png")(tmp_path / "in")
    (tmp_path / "in/classes.txt").unlink()
    (tmp_path / "in" / file).write_text(content)
    if 'background"]' in content:
        refusal(tmp_path / "in", "labels.json: background has no value, but others have")
        return
    made = prepare(tmp_path / "in")
    assert sorted(made.classes) == sorted(CLASSES)
    numbers = [made.classes.index(name) for name in CLASSES]
    label = np.asarray(numbers)[label_of("a_01")]
    assert np.array_equal(made.label("a_01"), label)


def masks_of(folder: Path, *pairs: str) -> None:
    """Images and label PNGs of them: "IMAGE LABEL"."""
    for pair in pairs:
        image, label = pair.split()
        picture(folder / image, "1")
        saved(folder / label, INDEX % 2)


def test_pairs_that_are_not_clear_are_refused(tmp_path):
    masks_of(tmp_path / "two", "1.jpg 1_mask.png", "1.jpg 1_seg.png")
    refusal(tmp_path / "two", r"1_\w+.png: .*1_\w+.png is a label of the same image; delete one")
    masks_of(tmp_path / "split", "images/train/1.jpg masks/val/1.png")
    refusal(tmp_path / "split", r"masks/val/1.png: no image val/1; add it")


def test_labelmes_files_in_a_folder_of_labels_are_labelmes(tmp_path):
    labelme(tmp_path / "in/labels")
    (tmp_path / "in/notes.txt").write_text("of 2031")
    made = prepare(tmp_path / "in")
    assert "labelme, 2 files" in made.layout and made.classes == ["background", "cat"]
    (tmp_path / "classes.txt").write_text("__ignore__\ndog\ncat\n")
    made = prepare(tmp_path / "in", "no background", classes_file=tmp_path / "classes.txt")
    assert made.classes == ["dog", "cat"] and set(np.unique(made.label())) == {1, 255}


def test_a_file_of_classes_beside_a_zip_counts(tmp_path):
    split_folders("SPLIT/images/NAME.jpg", "SPLIT/masks/NAME.png")(tmp_path / "in")
    shutil.make_archive(str(tmp_path / "export"), "zip", tmp_path / "in")
    text(tmp_path / "mine.txt", "a", "b", "c")
    options = dict(classes_file=tmp_path / "mine.txt")
    prepare(tmp_path / "export.zip", **options)
    text(tmp_path / "mine.txt", "a", "c", "b")
    with pytest.raises(UserError, match="was made of other files or options"):
        prepare(tmp_path / "export.zip", **options)
    text(tmp_path / "mine.txt")
    refusal(tmp_path / "in", "mine.txt: names no class; write one name a line", **options)


def test_what_no_reader_takes_is_told_with_the_nearest_layout(tmp_path):
    picture(tmp_path / "in/photos/a_01.jpg", "1")
    text(tmp_path / "in/notes.md", "")
    refusal(tmp_path / "in", r"no labelled pictures; there are 1 pictures in photos, 1 \.md in \.;")
    text(tmp_path / "in/Annotations/a_01.xml", "<annotation/>")
    refusal(tmp_path / "in", r"1 \.xml in Annotations; XML files usually hold boxes")
