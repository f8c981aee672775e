"""The drawn data set: layout, determinism, restart, and that only the shape tells the class."""

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin
from prepare.own_pictures import contents

from fcn_plugin.data.labels import voc_palette
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.drawing import CLASSES, PALETTE, VOID, draw
from fcn_plugin.prepare.shapes import write_shapes


def test_layout_is_vocs_and_the_files_hold_what_was_drawn(tmp_path):
    root = tmp_path / "deep" / "shapes"
    write_shapes(root, train=3, val=2, seed=3)
    assert (root / "ImageSets/Segmentation/val.txt").read_text() == "val_00000\nval_00001\n"
    names = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    assert names == ["train_00000", "train_00001", "train_00002"]
    for index, name in enumerate(names):
        image = Image.open(root / "JPEGImages" / f"{name}.jpg")
        label = Image.open(root / "SegmentationClass" / f"{name}.png")
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
        assert np.reshape(label.getpalette(), (256, 3)).tolist() == voc_palette()
        drawn, labels = draw(3, "train", index)
        np.testing.assert_array_equal(np.asarray(label), labels)
        # JPEG at quality 95 moves a value by a few units where the texture is finest.
        assert np.abs(np.asarray(image).astype(int) - drawn).mean() < 4
    assert len(contents(root)) == 2 * 5 + 2 + 1
    # A picture depends on seed, split and index alone.
    write_shapes(tmp_path / "many", train=20, val=3, seed=3)
    many = contents(tmp_path / "many")
    pictures = [name for name in contents(root) if name.endswith((".jpg", ".png"))]
    assert len(pictures) == 10 and all(contents(root)[name] == many[name] for name in pictures)
    drawn = [draw(0, "train", 0), draw(0, "train", 1), draw(0, "val", 0), draw(1, "train", 0)]
    assert len({image.tobytes() for image, _ in drawn}) == 4


def test_an_interrupted_run_leaves_nothing_at_root_and_ends_in_the_same_tree(tmp_path):
    def interrupt(step, done, total):
        assert total == 2010
        raise KeyboardInterrupt

    root = tmp_path / "shapes"
    with pytest.raises(KeyboardInterrupt):
        write_shapes(root, train=2000, val=10, progress=interrupt)
    assert not root.exists()
    assert len(list(tmp_path.rglob("*.png"))) < 500, "the rest was drawn before the interrupt"
    # A killed run leaves files, and one that is cut short.
    left = tmp_path / ".shapes.partial/JPEGImages"
    left.mkdir(parents=True)
    for name in ("train_00000.jpg", "train_00009.jpg"):
        (left / name).write_bytes(b"cut")
    write_shapes(root, train=4, val=2)
    write_shapes(tmp_path / "straight", train=4, val=2)
    assert contents(root) == contents(tmp_path / "straight")
    with pytest.raises(UserError, match=r"shapes: was made with train=4, not 3; remove it"):
        write_shapes(root, train=3, val=2)
    (root / "JPEGImages/val_00000.jpg").unlink()
    with pytest.raises(UserError, match=r"JPEGImages: 5 files instead of 6; remove it"):
        write_shapes(root, train=4, val=2)


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    counts = {"train": 300, "val": 100}
    return {split: [draw(0, split, i) for i in range(count)] for split, count in counts.items()}


def test_labels_are_classes_and_outlines(drawn):
    labels = np.stack([label for _, label in drawn["train"]])
    shares = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert set(np.unique(labels)) == {*range(len(CLASSES)), VOID}
    assert shares[0] > 0.5
    # The four shapes are as frequent as each other, but for the outline, longest on the star.
    assert shares[1:5].max() < 1.5 * shares[1:5].min()
    # Outlines part the classes: no pixel has a neighbour of another class, two outlines aside.
    for grid in (labels, labels.transpose(0, 2, 1)):
        one, other = grid[:, :-1], grid[:, 1:]
        assert not ((one != other) & (one != VOID) & (other != VOID)).any()
    # All shapes can be seen: of the smallest star's 200 pixels 80 % are, half of them as outline.
    for image, label in drawn["train"]:
        background = image[label == 0].mean(axis=0)
        for index in {*np.unique(label)} - {0, VOID}:
            pixels = image[label == index]
            assert len(pixels) > 50
            distance = np.linalg.norm(pixels - background, axis=1)
            assert np.quantile(distance, 0.05) > 38


def colour_only_accuracy(drawn, paint=lambda image, label: image) -> float:
    """Accuracy among the pixels of shapes, in percent, of the best guess from a pixel's colour.

    The guess is Bayes' with equal priors over a histogram, of 512 colours, of the training
    pictures.
    """

    def bins(image: np.ndarray, label: np.ndarray) -> np.ndarray:
        return (paint(image, label).astype(int) >> 5) @ [64, 8, 1]

    counts = np.zeros((512, 256))
    for image, label in drawn["train"]:
        np.add.at(counts, (bins(image, label), label), 1)
    guesses = (counts[:, 1:5] / counts[:, 1:5].sum(axis=0)).argmax(axis=1) + 1
    right = total = 0
    for image, label in drawn["val"]:
        shape = (label > 0) & (label != VOID)
        right += (guesses[bins(image, label)] == label)[shape].sum()
        total += shape.sum()
    return 100 * right / total


def test_colour_cannot_tell_the_class_and_would_if_it_could(drawn):
    assert colour_only_accuracy(drawn) < 33  # guessing at random gives 25 %

    def tint(image, label):
        tints = np.zeros((256, 3))
        tints[:5] = PALETTE
        return (0.3 * image + 0.7 * tints[label]).astype(np.uint8)

    assert colour_only_accuracy(drawn, tint) > 90
