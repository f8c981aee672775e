"""Loading images and labels, with every doubt about a file cleared at once.

The host's loaders fill the missing part of a truncated JPEG with grey (OpenCV before 5), turn label
values above 255 into others, and leave a value that is no class to fail in the loss. These two take
their place in a pipeline and raise one `UserError` that names the file.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageFile, ImageOps

from fcn_plugin.data.kinds import LOADER
from fcn_plugin.data.narrow import Narrowing
from fcn_plugin.data.numbering import IGNORED, numbering_of
from fcn_plugin.data.opening import (
    CheckSize,
    content_of,
    damage_named,
    numbers_in_words,
    open_checked,
    raw_mode_of,
)
from fcn_plugin.data.whole import check_rows
from fcn_plugin.errors import UserError, some, width_by_height
from fcn_plugin.registry import TRANSFORMS as SCOPED_TRANSFORMS
from fcn_plugin.system.memory import check_picture

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"

# Pillow's modes of one channel: indices in a label, grey in an image.
WIDE_MODES = ("I", "I;16", "I;16B", "I;16L")
INDEX_MODES = ("1", "L", "P", *WIDE_MODES)
# Pillow stretches grey of two and four bits to 0..255; the indices are these fractions of it.
STRETCHED = {"L;2": 255 // 3, "L;4": 255 // 15}
# Other formats lose indices (JPEG), number them anew (GIF) or stretch them (PGM).
LABEL_FORMATS = ("PNG", "TIFF", "BMP")
LOSSY_TIFFS = ("jpeg", "webp")
# As many pixels OpenCV refuses; so many are converted at once.
OPENCV_PIXELS, AT_ONCE = 2**30, 2**20


def _whole_jpeg(image: Image.Image, content: bytes) -> np.ndarray | None:
    """A grey or colour JPEG as BGR, upright, by OpenCV, which is quicker than Pillow.

    None for all else, for a JPEG without the marker of its end: OpenCV before 5 would make up
    what is missing; and for one whose orientation may stand in XMP, where OpenCV does not look.
    """
    if image.mode not in ("L", "RGB") or "xmp" in image.info or content[:2] != JPEG_START:
        return None
    if image.width * image.height >= OPENCV_PIXELS:
        return None
    if not content.endswith(JPEG_END):
        return None
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)


# The host's inferencer looks in a test pipeline for a step of the name "LoadImageFromFile", to put
# its own in its place. With _scope_="fcn_plugin" beside it, that name is this loader.
@SCOPED_TRANSFORMS.register_module(name="LoadImageFromFile")
@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """Load ``img_path`` as BGR, 8 bits: in place of the host's ``LoadImageFromFile``.

    Adds ``img`` [H, W, 3] uint8, ``img_shape`` and ``ori_shape`` (H, W). Turned upright by its EXIF
    orientation, as the host does; grey, palette, CMYK and 16-bit pictures are converted, and
    transparency is dropped.

    Args:
        backend_args: Where files are read from, as for the host's.
        bits: Of 16-bit pictures, how many bits hold numbers, 8 to 16: with ``bits=12`` the values 0
            to 4095 become 0 to 255. Default: all 16, as OpenCV reads them; the first picture that
            would be nearly black so is named in a warning.

    Attributes:
        check_size: refuses a picture by its path, width and height, before it is decoded; by
            default one that does not fit into the memory that is free.

    Raises:
        UserError: the file is missing, truncated or not a picture of 8 or 16 bits.
    """

    check_size: CheckSize = staticmethod(check_picture)

    def __init__(self, backend_args: dict | None = None, bits: int | None = None) -> None:
        super().__init__(imdecode_backend="pillow", backend_args=backend_args)
        self.narrow = Narrowing(bits)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        path = results["img_path"]
        img = self.decode(content_of(path, "image", self.backend_args), path)
        results["img"] = img
        results["img_shape"] = results["ori_shape"] = img.shape[:2]
        return results

    def decode(self, content: bytes, path: str) -> np.ndarray:
        """The picture [H, W, 3] in the bytes of a file; ``path`` is its name in errors."""
        opened = open_checked(content, path, "image", self.check_size)
        with damage_named(path, "image", content):
            image: Image.Image = opened
            raw_mode = raw_mode_of(opened)
            img = _whole_jpeg(image, content)
            if img is None:
                opened.load()
            check_rows(image, img, content)
            if img is None and ";16" in raw_mode and image.mode not in WIDE_MODES:
                image = self.narrow.colour(image, content, path)
        return self.convert(image, path) if img is None else img

    def convert(self, image: Image.Image, path: str) -> np.ndarray:
        """A picture of Pillow's, of any mode, as ``decode`` has it."""
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise UserError(f"{path}: {numbers_in_words(image)}; {LOADER}")
        with damage_named(path, "image", None):
            image = ImageOps.exif_transpose(image)
        if image.mode in WIDE_MODES:
            image = Image.fromarray(self.narrow(np.asarray(image), path))
        # Some rows at a time, since each step makes a copy.
        bgr = np.empty((image.height, image.width, 3), np.uint8)
        for top in range(0, image.height, rows := max(1, AT_ONCE // image.width)):
            part = image.crop((0, top, image.width, min(top + rows, image.height)))
            if part.mode == "P":
                # By way of RGBA, or Pillow warns of a transparency that is dropped.
                part = part.convert("RGBA")
            if part.mode != "RGB":
                part = part.convert("RGB")
            cv2.cvtColor(np.asarray(part), cv2.COLOR_RGB2BGR, bgr[top : top + rows])
        return bgr


@TRANSFORMS.register_module()
class LoadCheckedLabel(LoadAnnotations):
    """Load ``seg_map_path`` as class indices: in place of the host's ``LoadAnnotations``.

    Adds ``gt_seg_map`` [H, W] uint8 and its name to ``seg_fields``: the values of the file after
    the data set's ``reduce_zero_label`` and ``label_map``, all below ``num_classes`` or
    ``ignore_index``. A sample without ``seg_map_path``, from a data set without labels, passes as
    it is.

    Args:
        num_classes: As in the decode head, at most 255.
        backend_args: Where files are read from, as for the host's.
        ignore_index: As in the decode head, 0 to 255; takes the place of 255, which is ignored too.

    Raises:
        UserError: the file is missing, truncated, in colour, not of its image's size, or holds a
            value that is no class.
    """

    def __init__(
        self, num_classes: int, backend_args: dict | None = None, ignore_index: int = IGNORED
    ) -> None:
        super().__init__(backend_args=backend_args)
        if not 1 <= num_classes <= IGNORED:
            raise UserError(f"LoadCheckedLabel: num_classes={num_classes}; give 1 to {IGNORED}")
        if not 0 <= ignore_index <= IGNORED:
            raise UserError(f"LoadCheckedLabel: ignore_index={ignore_index}; give 0 to {IGNORED}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        path = results.get("seg_map_path")
        if path is None:
            return results
        stored = read_label(path, self.backend_args)
        self._check_size(path, stored, results)
        meaning = numbering_of(results, self.num_classes).meaning
        if self.ignore_index != IGNORED:
            meaning = np.where(meaning == self.ignore_index, np.uint8(IGNORED), meaning)
        label = cv2.LUT(stored.astype(np.uint8, copy=False), meaning)
        # One more than each, and 255 becomes 0: a quick test of all pixels, which most labels pass.
        if stored.dtype != np.uint8 or (label + np.uint8(1)).max() > self.num_classes:
            self._check_values(path, stored, meaning)
        if self.ignore_index != IGNORED:
            label[label == IGNORED] = self.ignore_index
        results["gt_seg_map"] = label
        results["seg_fields"].append("gt_seg_map")
        return results

    def _check_size(self, path: str, stored: np.ndarray, results: dict[str, Any]) -> None:
        # Not img_shape: test pipelines resize the image before they load the label.
        shape = tuple(results.get("ori_shape", stored.shape)[:2])
        if stored.shape != shape:
            found, wanted = map(width_by_height, (stored.shape, shape))
            remedy = "use the label made for this image"
            raise UserError(f"{path}: label of {found} for an image of {wanted}; {remedy}")

    def _check_values(self, path: str, stored: np.ndarray, meaning: np.ndarray) -> None:
        allowed = (meaning < self.num_classes) | (meaning == IGNORED)
        values, counts = np.unique(stored, return_counts=True)
        inside = (values >= 0) & (values < len(allowed))
        wrong = ~inside | ~allowed[np.where(inside, values, 0)]
        values, counts = values[wrong], counts[wrong]
        if len(values) == 0:
            return
        raise UserError(
            f"{path}: label values {values_in_words(values, counts)}, but with "
            f"num_classes={self.num_classes} only {ranges_in_words(allowed)} can be; "
            "correct the file or num_classes"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_classes={self.num_classes})"


def read_label(path: str | Path, backend_args: dict | None = None) -> np.ndarray:
    """The class indices [H, W] stored in a label of one channel, grey or palette.

    uint8, or wider where the file is.

    Args:
        backend_args: Where files are read from, as for the host's loaders.

    Raises:
        UserError: the file is missing, truncated, in colour, or of a kind that does not keep
            indices as they are.
    """
    content = content_of(path, "label", backend_args)
    image = open_checked(content, path, "label")
    with damage_named(path, "label", content):
        raw_mode = raw_mode_of(image)
        image.load()
        check_rows(image, None, content)
    if image.mode == "F":
        raise UserError(
            f"{path}: label of {numbers_in_words(image)}; save the class indices as PNG"
        )
    if image.mode not in INDEX_MODES:
        remedy = "save the class indices as one channel (grey or palette)"
        raise UserError(f"{path}: label in colour (mode {image.mode}); {remedy}")
    if not _keeps_indices(image, raw_mode):
        kind = f"{image.format} (raw mode {raw_mode})"
        remedy = "save the class indices as PNG"
        raise UserError(f"{path}: label in {kind}, which may change class indices; {remedy}")
    stored = np.asarray(image)
    if stored.dtype == bool:
        return stored.astype(np.uint8)
    return stored // STRETCHED[raw_mode] if raw_mode in STRETCHED else stored


def _keeps_indices(image: ImageFile.ImageFile, raw_mode: str) -> bool:
    """Whether the pixels are those that were saved; grey TIFFs may have 0 for white ("L;I")."""
    if image.format not in LABEL_FORMATS or image.info.get("compression") in LOSSY_TIFFS:
        return False
    return raw_mode in STRETCHED or not raw_mode.startswith(("1;", "L;"))


def values_in_words(values: np.ndarray, counts: np.ndarray) -> str:
    """Label values and their numbers of pixels, such as ``7 (2 px), 20 (1 px)``; many are cut."""
    return some([f"{value} ({count} px)" for value, count in zip(values, counts, strict=True)])


def ranges_in_words(allowed: np.ndarray) -> str:
    """The true places of a mask in words, such as ``0-20, 255``."""
    (values,) = np.nonzero(allowed)
    runs = np.split(values, np.nonzero(np.diff(values) > 1)[0] + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
