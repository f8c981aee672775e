"""What odd and broken files do to training, prediction and scoring: each row a stated behaviour.

They go through the whole pipelines of two shipped configs and a tiny FCN-8s. That images load as
with the host's loader, and labels too, is in test_loading.py; the loss against the host's in
models/test_blockwise_loss.py; any bytes in property/test_any_label.py.
"""

import io
import math
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config, ConfigDict
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from PIL import Image, TiffImagePlugin

from fcn_plugin.data import images
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import LoadCheckedLabel, read_label
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

CONFIGS = Path(__file__).parents[2] / "configs"
CLASSES = 5  # both configs are used with the classes of the shapes
HIGH, WIDE = 24, 16
# Smooth, so that JPEG keeps it; not symmetric, so that a turn shows.
RAMP = np.stack(
    np.broadcast_arrays(*np.ogrid[0 : 240 : HIGH * 1j, 0 : 120 : WIDE * 1j], 77), axis=-1
).astype(np.uint8)
LABEL = np.arange(HIGH * WIDE, dtype=np.uint8).reshape(HIGH, WIDE) % CLASSES


@pytest.fixture(autouse=True)
def _scope():
    """Pipelines are built from names in the default scope, which a runner would set."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


def saved(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(RAMP, "JPEG", quality=95, exif=exif)


def opencvs(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def pipeline(config: str, key: str) -> Compose:
    steps = Config.fromfile(CONFIGS / config)[key]
    for step in steps:
        if step["type"] == "LoadCheckedLabel":
            step["num_classes"] = CLASSES
    return Compose(steps)


TRAINING = dict(voc="fcn8s_vgg16_voc.py", shapes="fcn8s_vgg16_shapes.py")


def sample(folder: Path, image: bytes, label: bytes, suffix: str = ".jpg") -> dict:
    """The files of one image, and what a data set of the host knows of them."""
    paths = folder / f"a{suffix}", folder / "a.png.label"
    for path, content in zip(paths, (image, label), strict=True):
        path.write_bytes(content)
    return dict(
        img_path=str(paths[0]),
        seg_map_path=str(paths[1]),
        seg_fields=[],
        reduce_zero_label=False,
        label_map=None,
    )


def segmentor(**head) -> torch.nn.Module:
    """FCN-8s as the configs have it, a few channels wide."""
    torch.manual_seed(0)
    settings = dict(in_channels=(16, 32, 8), in_index=(0, 1, 2), num_classes=CLASSES) | head
    model = MODELS.build(
        ConfigDict(
            type="FCNSegmentor",
            data_preprocessor=dict(
                type="SegDataPreProcessor",
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
                size=(64, 64),
                seg_pad_val=255,
            ),
            backbone=dict(type="ConvolutionalizedVGG", depth=11, base_channels=4, fc_channels=8),
            decode_head=dict(type="SkipFusionHead", **settings),
            test_cfg=dict(mode="whole"),
        )
    )
    model.init_weights()
    for score in model.decode_head.score:
        torch.nn.init.normal_(score.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def tiny() -> torch.nn.Module:
    with DefaultScope.overwrite_default_scope("mmseg"):
        return segmentor()


def trained(model, packed: list[dict]) -> dict[str, torch.Tensor]:
    """The losses of one batch, after its gradients went to the weights."""
    model.train().zero_grad()
    batch = model.data_preprocessor(
        dict(
            inputs=[p["inputs"] for p in packed], data_samples=[p["data_samples"] for p in packed]
        ),
        True,
    )
    losses = model(**batch, mode="loss")
    losses["decode.loss_ce"].sum().backward()
    return losses


def predicted(model, packed: dict):
    with torch.no_grad():
        return model.eval().test_step(
            dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]])
        )[0]


# --- images --------------------------------------------------------------------------------------

GREY = Image.fromarray(RAMP[..., 0])
WIDE_RGB = RAMP[..., ::-1].astype(np.uint16) << 8
ALPHA = Image.fromarray(np.dstack([RAMP, RAMP[..., 0]]))
UPSIDE_DOWN = Image.fromarray(RAMP[::-1])
PALETTE = Image.fromarray(RAMP).quantize(20)
# name: (file, (height, width) of what is seen, its first pixel in BGR or None if that may vary)
IMAGES: dict[str, tuple[bytes, tuple[int, int], tuple[int, int, int] | None]] = {
    "RGB": (saved(RAMP, "PNG"), (HIGH, WIDE), (77, 0, 0)),
    "grey": (saved(GREY, "PNG"), (HIGH, WIDE), (0, 0, 0)),
    "1 bit": (saved(Image.new("1", (WIDE, HIGH), 1), "PNG"), (HIGH, WIDE), (255, 255, 255)),
    "16-bit grey": (saved(RAMP[..., 0].astype(np.uint16) * 257, "PNG"), (HIGH, WIDE), (0, 0, 0)),
    "16-bit RGB": (opencvs(WIDE_RGB), (HIGH, WIDE), (77, 0, 0)),
    "RGBA": (saved(ALPHA, "PNG"), (HIGH, WIDE), (77, 0, 0)),
    "grey with alpha": (saved(ALPHA.convert("LA"), "PNG"), (HIGH, WIDE), (9, 9, 9)),
    "palette": (saved(PALETTE, "PNG"), (HIGH, WIDE), None),
    "transparent palette": (saved(PALETTE, "PNG", transparency=0), (HIGH, WIDE), None),
    "CMYK JPEG": (saved(Image.fromarray(RAMP).convert("CMYK"), "JPEG"), (HIGH, WIDE), None),
    "progressive JPEG": (saved(RAMP, "JPEG", progressive=True), (HIGH, WIDE), None),
    "WebP": (saved(RAMP, "WEBP", lossless=True), (HIGH, WIDE), (77, 0, 0)),
    "PNG named .jpg": (saved(RAMP, "PNG"), (HIGH, WIDE), (77, 0, 0)),
    "animated GIF: the first picture": (
        saved(RAMP, "GIF", save_all=True, append_images=[UPSIDE_DOWN]),
        (HIGH, WIDE),
        None,
    ),
    "TIFF of two pages: the first": (
        saved(RAMP, "TIFF", save_all=True, append_images=[UPSIDE_DOWN]),
        (HIGH, WIDE),
        (77, 0, 0),
    ),
    "1 x 1": (saved(RAMP[:1, :1], "PNG"), (1, 1), (77, 0, 0)),
    "1 x 400": (saved(np.tile(RAMP[:1], (1, 25, 1)), "PNG"), (1, 400), (77, 0, 0)),
    "400 x 1": (saved(np.repeat(RAMP[:1, :1], 400, axis=0), "JPEG"), (400, 1), None),
    **{
        f"EXIF {number}": (turned(number), (HIGH, WIDE) if number < 5 else (WIDE, HIGH), None)
        for number in range(1, 9)
    },
}


def label_of(height: int, width: int) -> bytes:
    return saved(np.resize(LABEL, (height, width)), "PNG")


@pytest.mark.filterwarnings("error:::PIL")
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_trained_on_and_predicted_at_its_own_size(tmp_path, tiny, name):
    content, size, pixel = IMAGES[name]
    given = sample(tmp_path, content, label_of(*size))
    loaded = LoadCheckedImage().transform(dict(given))["img"]
    assert loaded.shape == (*size, 3)
    assert pixel is None or tuple(loaded[0, 0]) == pixel
    np.random.seed(0)
    for config in TRAINING.values():
        packed = pipeline(config, "train_pipeline")(dict(given, seg_fields=[]))
        losses = trained(tiny, [packed])
        assert 0 < losses["decode.loss_ce"].item() < 1e3, config
        assert all(torch.isfinite(p.grad).all() for p in tiny.parameters() if p.grad is not None)
    for config in TRAINING.values():
        packed = pipeline(config, "test_pipeline")(dict(given, seg_fields=[]))
        found = predicted(tiny, packed)
        assert found.pred_sem_seg.data.shape == found.gt_sem_seg.data.shape == (1, *size)
        assert torch.isfinite(found.seg_logits.data).all()


def test_the_table_tells_the_pages_apart():
    """The control: the second pages do not begin with the pixel of the first."""
    assert tuple(RAMP[0, 0]) != tuple(RAMP[::-1][0, 0])


JPEG = saved(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
PNG = saved(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG")
REFUSED_IMAGES = {
    "empty": (b"", "the file is empty"),
    "truncated JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "truncated PNG": (PNG[: len(PNG) // 2], ""),
    "a flipped bit in a PNG": (
        PNG[:3000] + bytes([PNG[3000] ^ 1]) + PNG[3001:],
        "broken PNG file",
    ),
    "a PNG without its end": (PNG[:-12], "truncated"),
    "zeros": (bytes(1000), "no image format is recognised"),
    "a size beyond all memory": (
        PNG[:16] + b"\x7f\xff\xff\xff" * 2 + PNG[24:],
        "",
    ),
}


@pytest.mark.parametrize("config", TRAINING.values(), ids=TRAINING)
@pytest.mark.parametrize("name", REFUSED_IMAGES)
def test_a_damaged_image_is_named(tmp_path, name, config):
    content, reason = REFUSED_IMAGES[name]
    given = sample(tmp_path, content, label_of(64, 64))
    with pytest.raises(UserError, match=f"a.jpg: damaged image, .*{reason}.*; copy") as error:
        pipeline(config, "train_pipeline")(given)
    assert len(str(error.value).splitlines()) == 1


def opencvs_tiff(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".tiff", pixels)[1].tobytes()


def tagged(**tags: int) -> bytes:
    """A TIFF with more tags, by their numbers."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        info[int(name[1:])] = value
    return saved(RAMP, "TIFF", tiffinfo=info)


def five_bands() -> bytes:
    """A TIFF's head says how many bands its pixels have."""
    four = saved(Image.new("RGBA", (9, 8)), "TIFF")
    at = four.index(struct.pack("<HHIH", 277, 3, 1, 4))
    return four[: at + 8] + b"\5" + four[at + 9 :]


FTYP = b"\0\0\0\x18ftyp%s\0\0\0\0" + bytes(200)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SVG = b'<?xml version="1.0"?>\n<!-- -->\n<svg width="9">'
SIGNED, FLOATING = "16-bit numbers with a sign", "32-bit floating-point numbers"
OWN_LOADER = "convert it to three bands of 8 bits, or put a loader"
# name: (file, what it is, what to do with it)
OTHERS = {
    "MP4": (FTYP % b"isom", "a video", "ffmpeg"),
    "MOV": (FTYP % b"qt  ", "a video", "ffmpeg"),
    "AVI": (b"RIFF\x24\0\0\0AVI LIST" + bytes(99), "a video", "ffmpeg"),
    "MKV or WebM": (b"\x1aE\xdf\xa3" + bytes(99), "a video", "ffmpeg"),
    "MPEG": (b"\0\0\1\xba" + bytes(99), "a video", "ffmpeg"),
    "HEIC": (FTYP % b"heic", "a HEIC picture", "convert it"),
    "CR3": (FTYP % b"crx ", "a camera's raw file", "develop it"),
    "RAF": (b"FUJIFILMCCD-RAW 0201", "a camera's raw file", "develop it"),
    "DNG": (tagged(_50706=1), "a camera's raw file", "develop it"),
    "a preview first": (tagged(_254=1), "a camera's raw file", "develop it"),
    "5 bands": (five_bands(), "a TIFF of 5 bands, 8-bit whole numbers", OWN_LOADER),
    "3 x int16": (
        opencvs_tiff(np.zeros((8, 9, 3), np.int16)),
        f"a TIFF of 3 bands, {SIGNED}",
        OWN_LOADER,
    ),
    "float32": (opencvs_tiff(np.zeros((8, 9, 3), np.float32)), FLOATING, OWN_LOADER),
    "PDF": (b"%PDF-1.4\n", "a PDF", "save its pictures as PNG"),
    "PostScript": (saved(RAMP, "EPS"), "a program in PostScript", "save what it draws"),
    "SVG": (SVG, "an SVG drawing", "save it as PNG"),
    "HDR": (b"#?RADIANCE\n", "HDR", OWN_LOADER),
    "EXR": (b"v/1\x01\2\0\0\0", "EXR", OWN_LOADER),
    "DICOM": (bytes(128) + b"DICM" + bytes(99), "a DICOM file", OWN_LOADER),
    "npy": (b"\x93NUMPY\x01\0v\0" + bytes(99), "an array of NumPy", OWN_LOADER),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "an array of numbers", OWN_LOADER),
    "zip": (b"PK\x03\x04" + bytes(99), "an archive", "unpack it"),
    "tar.gz": (b"\x1f\x8b\x08" + bytes(99), "an archive", "unpack it"),
    "tar": (b"a.jpg".ljust(257, b"\0") + b"ustar\00000", "an archive", "unpack it"),
    "page": (b"\n<!DOCTYPE html><title>404</title>", "a web page", "download that again"),
    "message": (b"404: Not Found", "a text", "download that again"),
    "Git LFS": (LFS, "a pointer of Git LFS", "git lfs pull"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_image_is_told_and_not_called_damaged(tmp_path, name):
    content, kind, remedy = OTHERS[name]
    given = sample(tmp_path, content, content)
    for load in (LoadCheckedImage(), LoadCheckedLabel(CLASSES)):
        with pytest.raises(UserError, match=rf"a\.(jpg|png\.label): .*{kind}.*; .*") as error:
            load.transform(dict(given))
        text = str(error.value)
        assert "damaged" not in text and remedy in text and len(text.splitlines()) == 1


def test_an_image_of_signed_numbers(tmp_path):
    """As a label it may hold indices."""
    content = opencvs_tiff(np.zeros((HIGH, WIDE), np.int16))
    given = sample(tmp_path, content, content)
    with pytest.raises(UserError, match=rf"a\.jpg: a TIFF of 1 band, {SIGNED}; {OWN_LOADER}"):
        LoadCheckedImage().transform(given)
    assert not read_label(given["seg_map_path"]).any()


def test_an_image_of_32_bits_is_not_taken_for_one_of_16(tmp_path):
    """Its values may end at 255, of which the upper 8 of 16 bits would be black."""
    given = sample(tmp_path, saved(RAMP[..., 0].astype(np.int32), "TIFF"), label_of(HIGH, WIDE))
    with pytest.raises(
        UserError, match=r"a.jpg: a TIFF of 1 band, 32-bit numbers with a sign; convert it"
    ):
        LoadCheckedImage().transform(given)


def test_an_error_of_several_lines_is_told_in_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise cv2.error("OpenCV: error:\n > Overload resolution failed:\n >  - img")

    given = sample(tmp_path, saved(RAMP, "JPEG"), label_of(HIGH, WIDE))
    monkeypatch.setattr(images.cv2, "imdecode", refuse)
    with pytest.raises(UserError, match=r"failed: > - img; copy") as error:
        LoadCheckedImage().transform(given)
    assert len(str(error.value).splitlines()) == 1


# --- labels --------------------------------------------------------------------------------------


def spotted(value: int, dtype=np.uint8) -> np.ndarray:
    label = LABEL.astype(dtype)
    label[3, 4] = value
    return label


LABELS_IN_COLOUR = Image.fromarray(LABEL).convert("RGB")
# name: (file, values that are left in a label of the test pipeline)
LABELS = {
    "void in part": (saved(spotted(255), "PNG"), {0, 1, 2, 3, 4, 255}),
    "all void": (saved(np.full_like(LABEL, 255), "PNG"), {255}),
    "all background": (saved(np.zeros_like(LABEL), "PNG"), {0}),
    "16 bits": (saved(LABEL.astype(np.uint16), "PNG"), {0, 1, 2, 3, 4}),
    "1 bit": (saved(Image.fromarray(LABEL % 2 > 0), "PNG"), {0, 1}),
    "TIFF": (saved(LABEL, "TIFF"), {0, 1, 2, 3, 4}),
    "BMP": (saved(LABEL, "BMP"), {0, 1, 2, 3, 4}),
}
REFUSED_LABELS = {
    "a class too many": (saved(spotted(5), "PNG"), r"label values 5 \(1 px\), .* only 0-4, 255"),
    "254": (saved(spotted(254), "PNG"), r"label values 254 \(1 px\)"),
    "more than 8 bits can hold": (saved(spotted(256, np.uint16), "PNG"), r"values 256 \(1 px\)"),
    "65535": (saved(spotted(65535, np.uint16), "PNG"), r"values 65535 \(1 px\)"),
    "colours": (saved(LABELS_IN_COLOUR, "PNG"), r"in colour \(mode RGB\); save the class"),
    "wider": (saved(np.pad(LABEL, ((0, 0), (0, 1))), "PNG"), "label of 17x24 for an image of 16x"),
    "smaller": (saved(LABEL[:-1], "PNG"), "label of 16x23 for an image of 16x24"),
    "on its side": (saved(LABEL.T, "PNG"), "label of 24x16 for an image of 16x24"),
    "JPEG": (saved(LABEL, "JPEG"), "label in JPEG .*, which may change class indices; save .* PNG"),
    "GIF": (saved(LABEL, "GIF"), "label in GIF .*, which may change class indices"),
    "empty file": (b"", "damaged label, the file is empty"),
    "truncated": (saved(LABEL, "PNG")[:60], "damaged label, .*; copy"),
}


@pytest.mark.parametrize("name", LABELS)
def test_a_label_is_trained_on(tmp_path, tiny, name):
    content, values = LABELS[name]
    given = sample(tmp_path, saved(RAMP, "PNG"), content)
    np.random.seed(0)
    for config in TRAINING.values():
        packed = pipeline(config, "train_pipeline")(dict(given, seg_fields=[]))
        assert set(packed["data_samples"].gt_sem_seg.data.unique().tolist()) <= values | {255}
        losses = trained(tiny, [packed])
        assert math.isfinite(losses["decode.loss_ce"].item())
        assert math.isfinite(losses["decode.acc_seg"].item())
        packed = pipeline(config, "test_pipeline")(dict(given, seg_fields=[]))
        assert set(packed["data_samples"].gt_sem_seg.data.unique().tolist()) == values


@pytest.mark.parametrize("config", TRAINING.values(), ids=TRAINING)
@pytest.mark.parametrize("name", REFUSED_LABELS)
def test_a_label_that_is_wrong_is_named(tmp_path, name, config):
    content, message = REFUSED_LABELS[name]
    for key in ("train_pipeline", "test_pipeline"):
        given = sample(tmp_path, saved(RAMP, "PNG"), content)
        with pytest.raises(UserError, match=f"a.png.label: .*{message}") as error:
            pipeline(config, key)(given)
        assert len(str(error.value).splitlines()) == 1


def test_a_label_of_the_picture_as_it_is_stored(tmp_path):
    """An image that its EXIF turns needs a label of what is seen; the other is refused."""
    given = sample(tmp_path, turned(6), saved(LABEL, "PNG"))
    with pytest.raises(UserError, match="label of 16x24 for an image of 24x16; use the label made"):
        pipeline(TRAINING["voc"], "train_pipeline")(given)


def grey_tiff(bits: int, white: int, content: bytes, width: int, height: int) -> bytes:
    """A TIFF of one strip; ``white`` says which number is white: 0, or 1 for the highest."""
    short, long = 3, 4
    tags = [(256, short, width), (257, short, height), (258, short, bits), (259, short, 1)]
    tags += [(262, short, white), (273, long, 8), (277, short, 1), (278, short, height)]
    tags += [(279, long, len(content))]
    entries = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + bytes([1, 0, 0, 0])
        + value.to_bytes(4, "little")
        for tag, kind, value in tags
    )
    directory = len(tags).to_bytes(2, "little") + entries + bytes(4)
    return b"II*\0" + (8 + len(content)).to_bytes(4, "little") + content + directory


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_tiffs_of_few_bits_keep_their_indices(tmp_path, bits):
    """Pillow stretches those of 2 and 4 bits; where 0 is white it turns all of them around."""
    content = bytes([0b00011011, 0b11100100])
    path = tmp_path / "a.tif"
    path.write_bytes(grey_tiff(bits, 1, content, 8 // bits, 2))
    ones = [format(byte, "08b") for byte in content]
    expected = [[int(row[i : i + bits], 2) for i in range(0, 8, bits)] for row in ones]
    assert read_label(path).tolist() == expected
    path.write_bytes(grey_tiff(bits, 0, content, 8 // bits, 2))
    with pytest.raises(UserError, match=r"a.tif: label in TIFF \(raw mode .*I\), which may change"):
        read_label(path)


# --- nothing but void ----------------------------------------------------------------------------

LOSSES = {
    "mean over valid": dict(avg_non_ignore=True),
    "mean over all": dict(avg_non_ignore=False),
    "sum": dict(reduction="sum"),
}
SAMPLERS = {
    "all pixels": None,
    "improbable": dict(type="OHEMPixelSampler", thresh=0.7, min_kept=50),
    "worst": dict(type="OHEMPixelSampler", min_kept=50),
}
whichever = pytest.mark.parametrize("blockwise", [True, False], ids=["blockwise", "plain"])
losses_of = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
samplers = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
quiet = pytest.mark.filterwarnings("ignore:Default ``avg_non_ignore``")


def judging(blockwise: bool, loss: dict, sampler: dict | None) -> torch.nn.Module:
    return segmentor(
        blockwise=blockwise, sampler=sampler, loss_decode=dict(type="CrossEntropyLoss", **loss)
    )


def packed(folder: Path, label: np.ndarray) -> dict:
    given = sample(folder, saved(RAMP, "PNG"), saved(label, "PNG"))
    return pipeline(TRAINING["shapes"], "test_pipeline")(given)


VOID = np.full_like(LABEL, 255)


@quiet
@whichever
@losses_of
@samplers
def test_nothing_but_void_teaches_nothing(tmp_path, blockwise, loss, sampler):
    """Loss and gradients are exactly 0, the accuracy is the host's 100, a step moves no weight."""
    model = judging(blockwise, loss, sampler)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9))
    one = packed(tmp_path, VOID)
    logged = model.train().train_step(
        dict(inputs=[one["inputs"]] * 2, data_samples=[one["data_samples"]] * 2), optimizer
    )
    assert float(logged["loss"]) == float(logged["decode.loss_ce"]) == 0
    assert float(logged["decode.acc_seg"]) == 100
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@quiet
@whichever
@losses_of
def test_a_void_image_beside_another_adds_nothing(tmp_path, blockwise, loss):
    """Averaged over all pixels it counts as pixels, with its padding; otherwise not at all."""
    model = judging(blockwise, loss, None)
    model.backbone.eval()  # without dropout, the image is seen alike in both
    good, void = packed(tmp_path, LABEL), packed(tmp_path, VOID)
    gradients = []
    for batch in ([good], [good, void]):
        model.zero_grad()
        inputs = model.data_preprocessor(
            dict(
                inputs=[one["inputs"] for one in batch],
                data_samples=[one["data_samples"] for one in batch],
            ),
            True,
        )
        losses = model(**inputs, mode="loss")
        losses["decode.loss_ce"].backward()
        weights = [score.weight.grad.clone() for score in model.decode_head.score]
        gradients.append((losses["decode.loss_ce"].detach(), *weights))
    share = 0.5 if loss.get("avg_non_ignore") is False else 1
    for alone, together in zip(*gradients, strict=True):
        assert alone.abs().max() > 0
        torch.testing.assert_close(together, share * alone, rtol=1e-4, atol=1e-6)


def evaluated(truths: list[np.ndarray]) -> dict[str, float]:
    metric = ConfusionMatrixMetric()
    metric.dataset_meta = dict(classes=tuple("abcde"))
    for truth in truths:
        prediction = torch.from_numpy(np.roll(LABEL, 1, axis=0).astype(np.int64))[None]
        truth = torch.from_numpy(truth.astype(np.int64))[None]
        metric.process({}, [dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=prediction))])
    return metric.evaluate(len(truths))


def test_a_void_image_changes_no_score():
    assert evaluated([LABEL, VOID]) == evaluated([LABEL])
    assert all(math.isnan(score) for score in evaluated([VOID]).values())
