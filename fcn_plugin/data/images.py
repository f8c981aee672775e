"""Load images as 8-bit BGR; a damaged or unusable file raises one error that names it.

mmseg's loader returns a truncated JPEG with its missing part in grey (OpenCV before 5).
"""

import logging
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmseg.registry import TRANSFORMS

from fcn_plugin.data.decoding import FEWEST, MOST, PictureDecoder
from fcn_plugin.data.picture_files import content_of
from fcn_plugin.errors import UserError
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

    Attributes:
        check_size: called with path, width and height before a picture is decoded; the default
            refuses a picture that does not fit into free memory.

    Raises:
        UserError: the file is missing, truncated or not a picture of 8 or 16 bits.
    """

    def __init__(self, backend_args: dict | None = None, bits: int | None = None) -> None:
        super().__init__(imdecode_backend="pillow", backend_args=backend_args)
        if bits is not None and (type(bits) is not int or not FEWEST <= bits <= MOST):
            raise UserError(f"LoadCheckedImage: bits={bits!r}; give {FEWEST} to {MOST}")
        self.bits = bits

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        path = results["img_path"]
        img = self.decode(content_of(path, "image", self.backend_args), path)
        results["img"] = img
        results["img_shape"] = results["ori_shape"] = img.shape[:2]
        return results

    def warn(self, text: str) -> None:
        print_log(text, logger="current", level=logging.WARNING)
