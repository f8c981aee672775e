"""Load images as 8-bit BGR; a damaged or unusable file raises one error that names it.

mmseg's loader returns a truncated JPEG with its missing part in grey (OpenCV before 5).
"""

import logging
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmseg.registry import TRANSFORMS

from fcn_plugin.data.decoding import FEWEST, MOST, PictureDecoder, Shape
from fcn_plugin.data.picture_files import content_of
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.registry import TRANSFORMS as SCOPED_TRANSFORMS


# mmseg's inferencer replaces the step named "LoadImageFromFile" in a test pipeline by its own.
# Beside _scope_="fcn_plugin" that name means this loader.
@SCOPED_TRANSFORMS.register_module(name="LoadImageFromFile")
@TRANSFORMS.register_module()
class LoadCheckedImage(PictureDecoder, LoadImageFromFile):
    """Load ``img_path`` as 8-bit BGR; replaces mmseg's ``LoadImageFromFile``.

    Adds ``img`` [H, W, 3] uint8, ``img_shape`` and ``ori_shape`` (H, W). The picture is turned
    upright by its EXIF orientation, as in mmseg; grey, palette, CMYK and 16-bit pictures are
    converted, and transparency is dropped.

    Args:
        backend_args: Where files are read from, as in mmseg's loader.
        bits: How many bits of a 16-bit picture are used, 8 to 16: with ``bits=12`` the values 0 to
            4095 become 0 to 255. Default: all 16, as OpenCV reads them; then a warning names the
            first picture that becomes nearly black.
        shrink_on_load: Config of a step that resizes, such as mmcv's ``Resize`` or
            ``RandomResize``, to be done in the same go: a JPEG is then decoded at the smallest of
            1/8, 1/4 and 1/2 of its size that is no smaller than the new size, and resized from
            there, bilinear. The keys are those that both steps add. Labels to be resized as well
            are loaded before. Other files are decoded in full, with the bytes of both steps.

    Pixels of ``shrink_on_load`` are not those of full decoding, from which bilinear shrinking skips
    pixels: on drawn 12-megapixel photographs at a short side of 512 they differ by 3.6 of 255 on
    average and by 58 at most, and are nearer to the mean over each new pixel's area.

    Attributes:
        check_size: called with path, width and height before a picture is decoded; the default
            refuses a picture that does not fit into free memory.

    Raises:
        UserError: the file is missing, truncated or not a picture of 8 or 16 bits.
    """

    def __init__(
        self,
        backend_args: dict | None = None,
        bits: int | None = None,
        shrink_on_load: dict | None = None,
    ) -> None:
        super().__init__(imdecode_backend="pillow", backend_args=backend_args)
        if bits is not None and (type(bits) is not int or not FEWEST <= bits <= MOST):
            raise UserError(f"LoadCheckedImage: bits={bits!r}; give {FEWEST} to {MOST}")
        self.bits = bits
        self.resize = None if shrink_on_load is None else TRANSFORMS.build(shrink_on_load)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        path = results["img_path"]
        content = content_of(path, "image", self.backend_args)
        if self.resize is None:
            return _loaded(results, self.decode(content, path))
        resized: dict[str, Any] = {}

        def new_shape(shape: Shape) -> Shape:
            # The step resizes the labels, and in place of the image zeros, which take no memory.
            resized.update(self.resize(_loaded(results, np.zeros(shape, np.uint8))))
            return resized["img"].shape

        img = self.decode(content, path, new_shape)
        if not resized:
            return self.resize(_loaded(results, img))
        return dict(resized, img=cv2.resize(img, resized["img"].shape[::-1]))

    def warn(self, text: str) -> None:
        print_log(text, logger="current", level=logging.WARNING)


def _loaded(results: dict[str, Any], img: np.ndarray) -> dict[str, Any]:
    """``results`` with an image; labels that they have already must be of its size."""
    shape = img.shape[:2]
    for key in results.get("seg_fields", ()):
        if results[key].shape[:2] != shape:
            sizes = f"{width_by_height(shape)} for a label of {width_by_height(results[key].shape)}"
            raise UserError(f"{results['img_path']}: image of {sizes}; use the label made for it")
    results.update(img=img, img_shape=shape, ori_shape=shape)
    return results
