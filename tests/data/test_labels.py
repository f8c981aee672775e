"""Labels: mmseg's class indices from good files, one line that names the file from all others.

That any values of any bit depth come back is in property/test_any_label.py.
"""

import struct

import numpy as np
import pytest
from data.pictures import LABEL, NOISE, load_label, saved, written
from PIL import Image

from fcn_plugin.data import label_arrays as module
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


WIDE = np.array([[0, 5], [256, 261], [3, 261]], dtype=np.uint16)
HALF = saved(NOISE[..., 0])[:1600]
# file, settings of the loader or the sample, what is said
REFUSED = [
    (saved(FEW), dict(num_classes=7), r"label values 7 \(2 px\), 20 \(1 px\), but with "
     "num_classes=7 only 0-6, 255 are legal; correct the file or num_classes"),
    # As they stand in the file; the map may bring an old class outside the new ones, too.
    (saved(np.uint8([[0, 150, 151]])), dict(num_classes=151, label_map={0: 151}),
     r"values 0 \(1 px\), 151 \(1 px\), but"),
    (saved(WIDE), {}, r"label values 256 \(1 px\), 261 \(2 px\), but"),  # 0 and 5 for mmseg
    (saved(Image.new("CMYK", (3, 2)), "JPEG"), {}, r"in colour \(mode CMYK\); save the class ind"),
    (saved(FEW, "JPEG"), {}, "label in .*, which may change class indices; save .* as PNG"),
    (saved(FEW, "TIFF", compression="jpeg"), {}, "label in TIFF .*, which may change class ind"),
    # Before the image is resized.
    (saved(FEW.T), dict(ori_shape=(2, 3), img_shape=(3, 2)), "label of 2x3 for an image of 3x2"),
    (HALF, {}, "damaged label, .*; copy, download"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "settings", "message"), REFUSED)
def test_a_file_that_is_no_label_of_its_image_is_named(tmp_path, content, settings, message):
    path = written(tmp_path / "a.png", content)
    with pytest.raises(UserError, match=f"a.png: .*{message}") as error:
        load_label(path, **settings)
    assert isinstance(error.value, DamagedFile) == ("damaged" in message)
    assert len(str(error.value).splitlines()) == 1


def grey_tiff(bits: int, white: int, content: bytes, width: int, height: int) -> bytes:
    """A TIFF of one strip; ``white`` says which number is white: 0, or 1 for the highest."""
    short, long = 3, 4
    tags = [(256, short, width), (257, short, height), (258, short, bits), (259, short, 1)]
    tags += [(262, short, white), (273, long, 8), (277, short, 1), (278, short, height)]
    tags += [(279, long, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = struct.pack("<4sI", b"II*\0", 8 + len(content))
    return head + content + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_grey_tiffs_of_few_bits_keep_their_indices(tmp_path):
    """Pillow stretches them; where 0 is white it turns them around."""
    content = bytes([0b00011011, 0b11100100])
    path = written(tmp_path / "a.tif", grey_tiff(2, 1, content, 4, 2))
    assert read_label(path).tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]
    written(path, grey_tiff(4, 1, content, 2, 2))
    assert read_label(path).tolist() == [[1, 11], [14, 4]]
    written(path, grey_tiff(4, 0, content, 2, 2))
    with pytest.raises(UserError, match=r"a.tif: label in TIFF \(raw mode .*I\), which may change"):
        read_label(path)


def test_settings_that_labels_cannot_hold_and_samples_without_one():
    sample = dict(img=np.zeros((2, 2, 3)))
    assert LoadCheckedLabel(2)(sample) is sample
    with pytest.raises(UserError, match=r"num_classes=.*; give 1 to 255"):
        LoadCheckedLabel(num_classes=256)
    with pytest.raises(UserError, match="ignore_index=256; give 0 to 255"):
        LoadCheckedLabel(2, ignore_index=256)


@pytest.mark.parametrize("block", [1, 7, 10**6])
def test_pixels_are_counted_in_blocks(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    expected = [int((value == LABEL).sum()) for value in range(8)]
    for dtype in (np.uint8, np.uint16):
        counts = pixel_counts(LABEL.astype(dtype).T, 8)
        assert counts.dtype == np.int64 and counts.tolist() == expected


def test_saved_labels_are_the_values_of_the_file(tmp_path):
    save_labels(FEW, tmp_path / "deep/a.png", in_full([[9, 8, 7]]))
    save_labels(WIDE, tmp_path / "b.png")
    assert np.array_equal(read_label(tmp_path / "deep/a.png"), FEW)
    assert np.array_equal(read_label(tmp_path / "b.png"), WIDE)
    palette = Image.open(tmp_path / "deep/a.png").getpalette()
    assert palette[:6] == [9, 8, 7, 128, 0, 0] and palette[-3:] == [224, 224, 192]
    assert voc_palette()[:4] == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
