"""LoadCheckedImage and LoadCheckedLabel: the host's results on good files, one error on others."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import DefaultScope
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image, ImageFile

from fcn_plugin.data import images
from fcn_plugin.errors import DamagedFile, UserError

RNG = np.random.default_rng(0)
# Smooth, so that JPEG keeps it; not symmetric, so that a turn shows.
RAMP = np.stack(np.broadcast_arrays(*np.ogrid[0:240:24j, 0:120:16j], 77), axis=-1).astype(np.uint8)


@pytest.fixture(autouse=True)
def default_scope():
    """Pipelines are built from names in the default scope, which a runner would set."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def load_image(path):
    return TRANSFORMS.build(dict(type="LoadCheckedImage"))(dict(img_path=str(path)))


def load_label(path, num_classes=21, **results):
    sample = dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False) | results
    return TRANSFORMS.build(dict(type="LoadCheckedLabel", num_classes=num_classes))(sample)


def write_png(path, pixels, bits, colour_type=0):
    """A one-channel PNG of any bit depth; Pillow writes few of them."""
    height, width = pixels.shape
    rows = b""
    for row in pixels:
        packed = "".join(format(value, f"0{bits}b") for value in row)
        packed = packed.ljust(-len(packed) % 8 + len(packed), "0")
        rows += b"\0" + int(packed, 2).to_bytes(len(packed) // 8, "big")

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


# --- images --------------------------------------------------------------------------------------


def pictures():
    rgb = Image.fromarray(RAMP)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    alpha = rgb.copy()
    alpha.putalpha(100)
    wide = Image.fromarray((RAMP[..., 0].astype(np.uint16) << 8) + 255)
    return {
        "rgb.png": (rgb, {}),
        "rgb.jpg": (rgb, dict(quality=95)),
        "grey.png": (rgb.convert("L"), {}),
        "grey.jpg": (rgb.convert("L"), {}),
        "alpha.png": (alpha, {}),
        "palette.png": (rgb.quantize(200), {}),
        "transparent.png": (rgb.quantize(200), dict(transparency=bytes(range(200)))),
        "black-and-white.png": (rgb.convert("1"), {}),
        "16-bit.png": (wide, {}),
        "turned.jpg": (rgb, dict(exif=exif, quality=95)),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", pictures())
def test_an_image_loads_as_with_the_host(tmp_path, name):
    image, options = pictures()[name]
    image.save(tmp_path / name, **options)
    expected = LoadImageFromFile()(dict(img_path=str(tmp_path / name)))
    loaded = load_image(tmp_path / name)
    assert loaded.keys() == expected.keys()
    for key in ("img_shape", "ori_shape"):
        assert loaded[key] == expected[key]
    assert loaded["img"].dtype == np.uint8
    assert loaded["img"].flags.c_contiguous and loaded["img"].flags.writeable
    # Two decoders of JPEG may round otherwise; nothing else may differ.
    tolerance = 2 if name.endswith("jpg") else 0
    difference = np.abs(loaded["img"].astype(int) - expected["img"])
    assert difference.max() <= tolerance


def test_channels_are_blue_green_red(tmp_path):
    Image.new("RGB", (5, 4), (200, 100, 50)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png")["img"][0, 0].tolist() == [50, 100, 200]
    Image.new("CMYK", (5, 4), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=95)
    blue, green, red = load_image(tmp_path / "red.jpg")["img"][0, 0]
    assert red > 200 and max(blue, green) < 60


def test_the_turn_of_xmp_shows(tmp_path):
    """Pillow looks there too, OpenCV does not."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>6</tiff:Orientation></x:xmpmeta>'
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", xmp=xmp)
    results = load_image(tmp_path / "turned.jpg")
    assert results["img"].shape == (30, 20, 3)


def test_the_turn_of_exif_shows(tmp_path):
    image, options = pictures()["turned.jpg"]
    image.save(tmp_path / "turned.jpg", **options)
    assert load_image(tmp_path / "turned.jpg")["img_shape"] == (16, 24)
    image.save(tmp_path / "plain.jpg")
    assert load_image(tmp_path / "plain.jpg")["img_shape"] == (24, 16)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused(tmp_path, kept, progressive):
    path = tmp_path / "cut.jpg"
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, progressive=progressive)
    assert load_image(path)["img_shape"] == (64, 64)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cut.jpg: damaged image, .*truncated.*; copy, download"):
        load_image(path)


@pytest.mark.parametrize("name", ["rgb.jpg", "grey.jpg", "turned.jpg", "progressive.jpg"])
def test_a_whole_jpeg_is_decoded_by_opencv(tmp_path, monkeypatch, name):
    picture, options = pictures().get(name, (Image.fromarray(RAMP), dict(progressive=True)))
    picture.save(tmp_path / name, **options)
    with monkeypatch.context() as context:
        context.setattr(Image.Image, "load", None)  # Pillow only reads the header
        context.setattr("PIL.ImageFile.ImageFile.load", None)
        quick = load_image(tmp_path / name)["img"]
    monkeypatch.setattr(images, "_whole_jpeg", lambda image, content: None)
    np.testing.assert_allclose(quick, load_image(tmp_path / name)["img"].astype(int), atol=2)


@pytest.mark.parametrize("tail", [b"\0\0", b"\n", b"\xff"])
def test_a_jpeg_with_more_after_its_end(tmp_path, tail):
    Image.fromarray(RAMP).save(tmp_path / "a.jpg")
    expected = load_image(tmp_path / "a.jpg")["img"]
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(tail)
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg")["img"], expected.astype(int), atol=2)


def test_a_jpeg_that_is_start_and_end_alone(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xd9")
    with pytest.raises(UserError, match=r"a.jpg: damaged image, .*; copy, download"):
        load_image(tmp_path / "a.jpg")


def test_opencv_is_given_neither_half_jpegs_nor_printers_colours(tmp_path, monkeypatch):
    """It would make up the missing half (before OpenCV 5), and mixes CMYK in its own way."""
    grey = np.full((64, 64, 3), 128, np.uint8)
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: grey)
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    assert load_image(tmp_path / "cut.jpg")["img"] is grey
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut.jpg: damaged image, .*truncated"):
        load_image(tmp_path / "cut.jpg")
    Image.fromarray(noise).convert("CMYK").save(tmp_path / "printed.jpg")
    assert load_image(tmp_path / "printed.jpg")["img"] is not grey


def test_a_jpeg_that_opencv_cannot_decode_is_left_to_pillow(tmp_path, monkeypatch):
    Image.fromarray(RAMP).save(tmp_path / "a.jpg")
    expected = load_image(tmp_path / "a.jpg")["img"]
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: None)
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg")["img"], expected.astype(int), atol=2)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (bytes(500), "no image format is recognised in it")],
)
def test_a_file_that_is_no_image(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=f"a.jpg: damaged image, {reason}; copy, download"):
        load_image(tmp_path / "a.jpg")


def test_what_a_check_of_the_size_raises_is_no_damage(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.jpg")

    def fails(path, size) -> None:
        raise RuntimeError("the device is gone")

    load = images.LoadCheckedImage()
    load.check_size = fails
    with pytest.raises(RuntimeError, match=r"^the device is gone$"):
        load(dict(img_path=str(tmp_path / "a.jpg")))


def test_images_that_have_no_8_bits_in_them(tmp_path):
    Image.fromarray(np.ones((3, 4), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a.tif: a TIFF of 1 band, 32-bit floating-point"):
        load_image(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a.tif: label of a TIFF of 1 band, 32-bit floating-point"):
        load_label(tmp_path / "a.tif")
    Image.fromarray(np.full((3, 4), 1 << 20, dtype=np.int32)).save(tmp_path / "b.tif")
    with pytest.raises(UserError, match=r"b.tif: a TIFF of 1 band, 32-bit numbers with a sign; "):
        load_image(tmp_path / "b.tif")


@pytest.mark.parametrize(("load", "kind"), [(load_image, "image"), (load_label, "label")])
def test_a_missing_file_and_a_folder_in_its_place(tmp_path, load, kind):
    with pytest.raises(UserError, match=f"a.png: no such {kind}; add the file, or take its name"):
        load(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(UserError, match=r"b.png: cannot be read \(Is a directory\)"):
        load(tmp_path / "b.png")


@pytest.mark.parametrize("load", [load_image, load_label])
def test_a_pipe_is_not_waited_for(tmp_path, load):
    os.mkfifo(tmp_path / "a.png")
    for path in (tmp_path / "a.png", "/dev/zero"):
        with pytest.raises(UserError, match=f"{path}: a pipe, device or socket; save the"):
            load(path)


def test_memory_decides_what_is_too_large_not_pillow(tmp_path, monkeypatch):
    """Pillow's guard is as it was afterwards; a picture is refused by its head alone."""
    images = [tmp_path / name for name in ("a.png", "a.jpg", "a.bmp")]
    for path in images:
        Image.fromarray(RAMP).save(path)
    label = tmp_path / "label.png"
    Image.fromarray(RAMP[..., 0] // 20).save(label)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for path in images:
        assert load_image(path)["img"].shape == RAMP.shape
    assert load_label(label)["gt_seg_map"].shape == RAMP.shape[:2]
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr("fcn_plugin.system.memory.SMALL", 10)
    monkeypatch.setattr("fcn_plugin.system.memory.free_memory", lambda: 1000)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    for path in (*images, label):
        load = load_label if path == label else load_image
        with pytest.raises(
            UserError, match=rf"{path.name}: a picture of 16x24 .* are free"
        ) as told:
            load(path)
        assert not isinstance(told.value, DamagedFile)


def test_a_large_picture_is_converted_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "AT_ONCE", 16 * 5)
    for mode in ("RGB", "L", "P", "RGBA", "CMYK"):
        path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
        Image.fromarray(RAMP).convert(mode).save(path)
        expected = np.asarray(Image.open(path).convert("RGB"))[..., ::-1]
        assert np.array_equal(load_image(path)["img"], expected)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "a.png").touch(mode=0)
    with pytest.raises(UserError, match=r"a.png: cannot be read \(Permission denied\)"):
        load_image(tmp_path / "a.png")


# --- images of 16 bits ---------------------------------------------------------------------------

TWELVE = np.arange(4096, dtype=np.uint16).reshape(64, 64)
WIDE = {
    "grey.png": TWELVE,
    "grey.tif": TWELVE,
    "colour.png": np.stack([TWELVE, TWELVE.T, TWELVE[::-1]], -1),
    "colour.tif": np.stack([TWELVE, TWELVE.T, TWELVE[::-1]], -1),
    "alpha.png": np.dstack([TWELVE, TWELVE.T, TWELVE[::-1], np.full_like(TWELVE, 65535)]),
}


def wide_file(folder, name, pixels):
    """Of 16 bits a channel, in BGR; Pillow writes no colours of so many."""
    assert cv2.imwrite(str(folder / name), pixels)
    return folder / name


def load_bits(path, bits):
    return TRANSFORMS.build(dict(type="LoadCheckedImage", bits=bits))(dict(img_path=str(path)))


@pytest.fixture
def warnings_of(monkeypatch):
    texts = []
    monkeypatch.setattr(images, "print_log", lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize("name", WIDE)
def test_twelve_of_sixteen_bits(tmp_path, warnings_of, name):
    """By default nearly black, which is said once; with bits=12 as bright as they should be."""
    path = wide_file(tmp_path, name, WIDE[name])
    loader = TRANSFORMS.build(dict(type="LoadCheckedImage"))
    for _ in range(2):
        dark = loader(dict(img_path=str(path)))["img"]
    assert dark.max() == 15
    (warning,) = warnings_of
    assert str(path) in warning and "4095" in warning and "bits=12" in warning
    bright = load_bits(path, 12)["img"]
    expected = (WIDE[name] if WIDE[name].ndim == 3 else np.stack([TWELVE] * 3, -1))[..., :3] >> 4
    np.testing.assert_array_equal(bright, expected)
    assert len(warnings_of) == 1
    with pytest.raises(UserError, match=rf"{name}: a value of 4095, which 10 bits cannot .* to 12"):
        load_bits(path, 10)


@pytest.mark.parametrize("name", WIDE)
def test_all_of_sixteen_bits_are_not_warned_of(tmp_path, warnings_of, name):
    path = wide_file(tmp_path, name, WIDE[name] << 4)
    for image in (load_image(path), load_bits(path, 16)):
        assert image["img"].max() == 255
    assert not load_image(wide_file(tmp_path, name, WIDE[name] * 0))["img"].any()
    assert not warnings_of
    Image.fromarray(RAMP).save(tmp_path / "8.png")
    np.testing.assert_array_equal(
        load_bits(tmp_path / "8.png", 12)["img"], load_image(tmp_path / "8.png")["img"]
    )


def test_the_turn_of_a_picture_of_12_bits(tmp_path):
    pixels = WIDE["colour.png"][:40]
    path = wide_file(tmp_path, "a.png", pixels)
    exif = Image.Exif()
    exif[0x0112] = 6
    body = b"eXIf" + exif.tobytes()[6:]  # without the marker that JPEGs have
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk + content[33:])
    assert load_image(path)["img_shape"] == (64, 40)
    np.testing.assert_array_equal(load_bits(path, 12)["img"], np.rot90(pixels >> 4, -1))


@pytest.mark.parametrize("bits", [0, 7, 17, "12", True])
def test_bits_that_cannot_be(bits):
    with pytest.raises(UserError, match=r"LoadCheckedImage: bits=.*; give 8 to 16"):
        TRANSFORMS.build(dict(type="LoadCheckedImage", bits=bits))


# --- labels --------------------------------------------------------------------------------------

LABEL = np.array([[0, 1, 20], [255, 7, 7]], dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("reduce_zero_label", [False, True])
@pytest.mark.parametrize("label_map", [None, {0: 3, 1: 0, 7: 255, 19: 1, 20: 1, 6: 2}])
def test_a_label_loads_as_with_the_host(tmp_path, mode, reduce_zero_label, label_map):
    image = Image.fromarray(LABEL)
    if mode == "P":
        image.putpalette([7, 7, 7] * 256)  # indices count, colours do not
    image.save(tmp_path / "a.png")
    given = dict(reduce_zero_label=reduce_zero_label, label_map=label_map)
    path = str(tmp_path / "a.png")
    expected = LoadAnnotations()(dict(seg_map_path=path, seg_fields=[], **given))
    loaded = load_label(path, ori_shape=(2, 3), **given)
    assert loaded.keys() - {"ori_shape"} == expected.keys()
    np.testing.assert_array_equal(loaded["gt_seg_map"], expected["gt_seg_map"])
    assert loaded["gt_seg_map"].dtype == np.uint8
    assert loaded["gt_seg_map"].flags.writeable
    assert loaded["seg_fields"] == ["gt_seg_map"]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("colour_type", ["grey", "palette"])
def test_indices_are_read_at_every_bit_depth(tmp_path, bits, colour_type):
    indices = RNG.integers(0, min(1 << bits, 20), (5, 7)).astype(np.uint8)
    path = tmp_path / "a.png"
    if colour_type == "grey":
        write_png(path, indices, bits)
    else:
        image = Image.fromarray(indices)
        image.putpalette([9, 9, 9] * 256)
        image.save(path, bits=min(bits, 8))
    np.testing.assert_array_equal(load_label(path)["gt_seg_map"], indices)


def test_values_that_are_no_class_are_counted(tmp_path):
    Image.fromarray(LABEL).save(tmp_path / "a.png")
    load_label(tmp_path / "a.png", num_classes=21)
    with pytest.raises(
        UserError,
        match=r"a.png: label values 7 \(2 px\), 20 \(1 px\), but with num_classes=7 "
        r"only 0-6, 255 can be; correct the file or num_classes",
    ):
        load_label(tmp_path / "a.png", num_classes=7)


@pytest.mark.parametrize("num_classes", [1, 21, 253, 254, 255])
@pytest.mark.parametrize("reduce_zero_label", [False, True])
def test_each_value_alone_is_a_class_or_is_refused(tmp_path, num_classes, reduce_zero_label):
    """So that the quick test of a whole label lets none slip through."""
    ends = {0, num_classes - 1, num_classes, num_classes + 1, num_classes + 2, 253, 254, 255}
    for value in sorted(ends & set(range(256))):
        stands_for = value
        if reduce_zero_label:
            stands_for = 255 if value in (0, 255) else value - 1
        Image.fromarray(np.array([[value, 255]], dtype=np.uint8)).save(tmp_path / "a.png")
        options = dict(num_classes=num_classes, reduce_zero_label=reduce_zero_label)
        if stands_for < num_classes or stands_for == 255:
            label = load_label(tmp_path / "a.png", **options)["gt_seg_map"]
            assert label.tolist() == [[stands_for, 255]]
        else:
            with pytest.raises(UserError, match=rf"label values {value} \(1 px\)"):
                load_label(tmp_path / "a.png", **options)


def test_values_are_reported_as_they_stand_in_the_file(tmp_path):
    Image.fromarray(np.array([[0, 150, 151]], dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"values 151 \(1 px\), but .* only 0-150, 255 can be"):
        load_label(tmp_path / "a.png", num_classes=150, reduce_zero_label=True)
    # The map may bring an old class outside the new ones, too.
    with pytest.raises(UserError, match=r"values 0 \(1 px\), 151 \(1 px\), but"):
        load_label(tmp_path / "a.png", num_classes=151, label_map={0: 151})


def test_values_above_255_are_reported_and_not_wrapped(tmp_path):
    path = tmp_path / "a.png"
    wide = np.array([[0, 5], [256, 261], [3, 261]], dtype=np.uint16)
    Image.fromarray(wide).save(path)
    host = LoadAnnotations()
    wrapped = host(dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False))
    assert wrapped["gt_seg_map"].tolist() == [[0, 5], [0, 5], [3, 5]]
    with pytest.raises(UserError, match=r"label values 256 \(1 px\), 261 \(2 px\), but"):
        load_label(path)


def test_a_long_list_of_wrong_values_is_cut(tmp_path):
    Image.fromarray(np.arange(100, dtype=np.uint8)[None]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"values 2 .* 9 \(1 px\) and 90 more, but"):
        load_label(tmp_path / "a.png", num_classes=2)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_a_label_in_colour_is_refused(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (3, 2)).save(tmp_path / f"a.{suffix}")
    with pytest.raises(UserError, match=rf"label in colour \(mode {mode}\); save the class ind"):
        load_label(tmp_path / f"a.{suffix}")


def test_a_label_of_another_size_is_refused(tmp_path):
    Image.fromarray(LABEL).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a.png: label of 3x2 for an image of 2x3; use the label"):
        load_label(tmp_path / "a.png", ori_shape=(3, 2))
    # An image resized on the way is not of the file's size any more, and need not be.
    load_label(tmp_path / "a.png", ori_shape=(2, 3), img_shape=(4, 6))


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.8])
def test_a_truncated_label_is_refused(tmp_path, kept):
    path = tmp_path / "a.png"
    Image.fromarray(RNG.integers(0, 21, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"a.png: damaged label, .*; copy, download"):
        load_label(path)


@pytest.mark.parametrize("num_classes", [0, 256])
def test_a_number_of_classes_that_labels_cannot_hold(num_classes):
    with pytest.raises(UserError, match=f"num_classes={num_classes}; give 1 to 255"):
        TRANSFORMS.build(dict(type="LoadCheckedLabel", num_classes=num_classes))


def test_a_sample_without_a_label_passes():
    sample = dict(img=np.zeros((2, 2, 3)))
    assert TRANSFORMS.build(dict(type="LoadCheckedLabel", num_classes=2))(sample) is sample


# --- in the host's data sets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "num_classes", "stored", "expected"),
    [
        ("PascalVOCDataset", 21, [0, 20, 255], [0, 20, 255]),
        ("ADE20KDataset", 150, [0, 1, 150], [255, 0, 149]),
        ("BaseSegDataset", 3, [0, 2, 255], [0, 2, 255]),
    ],
)
def test_the_hosts_data_sets_load(tmp_path, dataset, num_classes, stored, expected):
    pipeline = [
        dict(type="LoadCheckedImage"),
        dict(type="LoadCheckedLabel", num_classes=num_classes),
        dict(type="PackSegInputs"),
    ]
    (tmp_path / "list.txt").write_text("a\n")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (3, 1)).save(tmp_path / "images/a.jpg")
    Image.fromarray(np.array([stored], dtype=np.uint8)).save(tmp_path / "labels/a.png")
    built = DATASETS.build(
        dict(
            type=dataset,
            data_root=str(tmp_path),
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            ann_file="list.txt",
            pipeline=pipeline,
        )
    )
    for _ in range(2):  # nothing is remembered from one sample to the next
        packed = built[0]
        assert packed["data_samples"].gt_sem_seg.data.tolist() == [[expected]]
    assert packed["inputs"].shape == (3, 1, 3)
