"""Labels: mmseg's class indices from good files, one line that names the file from all others.

That any values of any bit depth come back is in property/test_any_label.py.
"""

import struct

import numpy as np
import pytest
from data.pictures import LABEL, NOISE, load_label, saved, written
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from fcn_plugin.data import labels as module
from fcn_plugin.data.labels import (
    LoadCheckedLabel,
    in_full,
    pixel_counts,
    read_label,
    save_labels,
    voc_palette,
)
from fcn_plugin.errors import DamagedFile, UserError

FEW = np.array([[0, 1, 20], [255, 7, 7]], dtype=np.uint8)


def test_a_label_loads_as_with_mmseg(tmp_path):
    image = Image.fromarray(FEW)
    image.putpalette([7, 7, 7] * 256)  # indices count, colours do not
    path = str(written(tmp_path / "a.png", saved(image)))
    for reduce_zero_label in (False, True):
        for label_map in (None, {0: 3, 1: 0, 7: 255, 19: 1, 20: 1, 6: 2}):
            sample = dict(reduce_zero_label=reduce_zero_label, label_map=label_map)
            sample["seg_map_path"] = path
            expected = LoadAnnotations()(dict(sample, seg_fields=[]))
            found = LoadCheckedLabel(21)(dict(sample, seg_fields=[], ori_shape=(2, 3)))
            assert found.keys() - {"ori_shape"} == expected.keys()
            np.testing.assert_array_equal(found["gt_seg_map"], expected["gt_seg_map"])
            assert found["gt_seg_map"].dtype == np.uint8 and found["gt_seg_map"].flags.writeable
            assert found["seg_fields"] == ["gt_seg_map"]


WIDE = np.array([[0, 5], [256, 261], [3, 261]], dtype=np.uint16)
# pixels, settings, what is said
ILLEGAL = [
    (FEW, dict(num_classes=7), r"a.png: label values 7 \(2 px\), 20 \(1 px\), but with "
     "num_classes=7 only 0-6, 255 are legal; correct the file or num_classes"),
    # As they stand in the file.
    (np.uint8([[0, 150, 151]]), dict(num_classes=150, reduce_zero_label=True),
     r"values 151 \(1 px\), but .* only 0-150, 255 are legal"),
    # The map may bring an old class outside the new ones, too.
    (np.uint8([[0, 150, 151]]), dict(num_classes=151, label_map={0: 151}),
     r"values 0 \(1 px\), 151 \(1 px\), but"),
    (np.uint8(range(100))[None], dict(num_classes=2), r"values 2 .* 9 \(1 px\) and 90 more, but"),
    # mmseg takes 256 for 0.
    (WIDE, {}, r"label values 256 \(1 px\), 261 \(2 px\), but"),
]  # fmt: skip


@pytest.mark.parametrize(("pixels", "sample", "message"), ILLEGAL)
def test_values_that_are_no_class_are_counted(tmp_path, pixels, sample, message):
    path = written(tmp_path / "a.png", saved(pixels))
    with pytest.raises(UserError, match=message) as error:
        load_label(path, **sample)
    assert len(str(error.value).splitlines()) == 1


FLOATS, HALF = np.ones((2, 3), np.float32), saved(NOISE[..., 0])
# file, what is said
REFUSED = [
    *[
        (saved(Image.new(mode, (3, 2)), kind), rf"in colour \(mode {mode}\); save the class ind")
        for mode, kind in (("RGB", "PNG"), ("RGBA", "PNG"), ("LA", "PNG"), ("CMYK", "JPEG"))
    ],
    (saved(FLOATS, "TIFF"), "label of a TIFF of 1 band, 32-bit floating-point numbers; save the"),
    *[
        (saved(FEW, kind, **options), "label in .*, which may change class indices; save .* as PNG")
        for kind, options in (("JPEG", {}), ("GIF", {}), ("JPEG2000", {}), ("PPM", {}))
    ],
    (saved(FEW, "TIFF", compression="jpeg"), "label in TIFF .*, which may change class indices"),
    (saved(np.pad(FEW, ((0, 0), (0, 1)))), "label of 4x2 for an image of 3x2; use the"),
    (saved(FEW.T), "label of 2x3 for an image of 3x2; use the label"),
    *[(HALF[:kept], "damaged label, .*; copy, download") for kept in (0, 40, 1600, 3200)],
]


@pytest.mark.parametrize(("content", "message"), REFUSED)
def test_a_file_that_is_no_label_of_its_image_is_named(tmp_path, content, message):
    path = written(tmp_path / "a.png", content)
    with pytest.raises(UserError, match=f"a.png: .*{message}") as error:
        load_label(path, ori_shape=(2, 3))
    assert isinstance(error.value, DamagedFile) == ("damaged" in message)


def test_the_size_is_that_of_the_image_before_it_is_resized(tmp_path):
    path = written(tmp_path / "a.png", saved(FEW))
    assert load_label(path, ori_shape=(2, 3), img_shape=(4, 6)).shape == (2, 3)


def grey_tiff(bits: int, white: int, content: bytes, width: int, height: int) -> bytes:
    """A TIFF of one strip; ``white`` says which number is white: 0, or 1 for the highest."""
    short, long = 3, 4
    tags = [(256, short, width), (257, short, height), (258, short, bits), (259, short, 1)]
    tags += [(262, short, white), (273, long, 8), (277, short, 1), (278, short, height)]
    tags += [(279, long, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = struct.pack("<4sI", b"II*\0", 8 + len(content))
    return head + content + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_tiffs_of_few_bits_keep_their_indices(tmp_path, bits):
    """Pillow stretches those of 2 and 4 bits; where 0 is white it turns all of them around."""
    content = bytes([0b00011011, 0b11100100])
    path = written(tmp_path / "a.tif", grey_tiff(bits, 1, content, 8 // bits, 2))
    ones = [format(byte, "08b") for byte in content]
    expected = [[int(row[i : i + bits], 2) for i in range(0, 8, bits)] for row in ones]
    assert read_label(path).tolist() == expected
    written(path, grey_tiff(bits, 0, content, 8 // bits, 2))
    with pytest.raises(UserError, match=r"a.tif: label in TIFF \(raw mode .*I\), which may change"):
        read_label(path)


def test_settings_that_labels_cannot_hold_and_samples_without_one():
    sample = dict(img=np.zeros((2, 2, 3)))
    assert LoadCheckedLabel(2)(sample) is sample
    for settings in (dict(num_classes=0), dict(num_classes=256)):
        with pytest.raises(UserError, match=r"num_classes=.*; give 1 to 255"):
            LoadCheckedLabel(**settings)
    for ignored in (-1, 256):
        with pytest.raises(UserError, match=f"ignore_index={ignored}; give 0 to 255"):
            LoadCheckedLabel(2, ignore_index=ignored)


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_pixels_are_counted_in_blocks(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    expected = [int((value == LABEL).sum()) for value in range(8)]
    for dtype in (np.uint8, np.uint16):
        counts = pixel_counts(LABEL.astype(dtype).T[::1], 8)
        assert counts.dtype == np.int64 and counts.tolist() == expected
    assert len(pixel_counts(LABEL)) == 256 and not pixel_counts(LABEL[:0], 3).any()


def test_saved_labels_are_the_values_of_the_file(tmp_path):
    save_labels(FEW, tmp_path / "deep/a.png", in_full([[9, 8, 7]]))
    save_labels(WIDE, tmp_path / "b.png")
    assert np.array_equal(read_label(tmp_path / "deep/a.png"), FEW)
    assert np.array_equal(read_label(tmp_path / "b.png"), WIDE)
    palette = Image.open(tmp_path / "deep/a.png").getpalette()
    assert palette[:6] == [9, 8, 7, 128, 0, 0] and palette[-3:] == [224, 224, 192]
    assert voc_palette()[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
