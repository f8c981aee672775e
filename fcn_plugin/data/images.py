"""Load images as 8-bit BGR; a damaged or unusable file raises one error that names it.

mmseg's loader returns a truncated JPEG with its missing part in grey (OpenCV before 5).
"""

import logging
from collections.abc import Sequence
from copy import copy
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
        shrink_on_load: The ``scale`` of the pipeline's ``Resize`` with ``keep_ratio``, or its
            largest if it varies. A JPEG is then decoded at 1/8, 1/4 or 1/2 of its size: at the
            smallest that is no smaller than ``scale`` and leaves no remainder of either side.
            Other files are decoded in full. ``img_shape`` is then that of ``img``, and
            ``ori_shape`` that of the whole picture.

    Pixels with ``shrink_on_load`` are nearly means over each new pixel's area; bilinear shrinking
    of the whole picture skips pixels, but for a half. The two differ, of 255 on average and at
    most: by 6.1 and 145 on CamVid's frames at a third of their sides, by 7.9 and 151 at an eighth,
    by 4.0 and 58 on drawn photographs of 12 megapixels at a short side of 512; at exactly half, by
    0.3 and 38 on CamVid's.

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
        shrink_on_load: Sequence[int] | None = None,
    ) -> None:
        super().__init__(imdecode_backend="pillow", backend_args=backend_args)
        if bits is not None and (type(bits) is not int or not FEWEST <= bits <= MOST):
            raise UserError(f"LoadCheckedImage: bits={bits!r}; give {FEWEST} to {MOST}")
        self.bits = bits
        if shrink_on_load is not None and not _is_scale(shrink_on_load):
            raise UserError(
                f"LoadCheckedImage: shrink_on_load={shrink_on_load!r}; give the scale of the "
                "pipeline's Resize, two numbers of pixels"
            )
        self.shrink_on_load = shrink_on_load

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        path = results["img_path"]
        content = content_of(path, "image", self.backend_args)
        img, divisor = self.decode_for(content, path, self.shrink_on_load)
        height, width = img.shape[:2]
        results["img"], results["img_shape"] = img, (height, width)
        results["ori_shape"] = (height * divisor, width * divisor)
        return results

    def warn(self, text: str) -> None:
        print_log(text, logger="current", level=logging.WARNING)


def in_full(step: Any) -> Any:
    """A step of a pipeline; ``LoadCheckedImage`` without ``shrink_on_load``."""
    if not isinstance(step, LoadCheckedImage) or step.shrink_on_load is None:
        return step
    step = copy(step)
    step.shrink_on_load = None
    return step


def _is_scale(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and all(type(side) is int for side in value)
    return numbers and len(value) == 2 and min(value) > 0
