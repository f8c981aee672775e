"""Load a picture and others of the same name beside it, such as color, depth and HHA, as bands.

data/images/img_5001.png    blue, green, red
data/depth/img_5001.png     log of the depth       -> one image of 4 bands
"""

from collections.abc import Mapping
from os.path import basename, dirname, join
from typing import Any, NamedTuple

import numpy as np
from mmseg.registry import TRANSFORMS

from fcn_plugin.data.bands import COLOURS, LoadBands
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.picture_files import check_rows, content_of, damage_named, open_checked
from fcn_plugin.errors import UserError, check_choice, width_by_height


class Kind(NamedTuple):
    """How a file becomes bands: their number and dtype, and which of them are shown (from 1)."""

    bands: int
    dtype: str
    display: tuple[int, ...]


KINDS = {
    "bgr": Kind(3, "uint8", (3, 2, 1)),
    "rgb": Kind(3, "uint8", (1, 2, 3)),
    "grey": Kind(1, "float32", (1,)),
    "log": Kind(1, "float32", (1,)),
}


@TRANSFORMS.register_module()
class LoadSideBySide(LoadBands):
    """Load ``img_path`` and the files of its name in folders beside its own, as bands of one image.

    Adds ``img`` [H, W, bands], uint8 if all files are colour pictures, else float32, ``img_shape``
    and ``ori_shape`` (H, W), and ``display_bands``, those of the first file.

    Args:
        files: folder -> how its files are read, in the order of the bands. The first is the
            folder of ``img_path``, whatever that is called; the others lie beside it:
            'bgr' and 'rgb': the three channels of a colour picture in this order;
            'grey': the numbers of a picture of one channel of any width;
            'log': their natural logarithm (depth in Caffe ``nyud_layers.py``).
        missing: the band's value where 'log' has a 0, no measurement; the mean is neutral.
            Default: such files are refused.
        backend_args: where files are read from, as in mmseg's loaders.

    Raises:
        UserError: a setting is unknown; or a file is missing, damaged, of another size than the
            first, or has other channels or numbers than its kind.
    """

    def __init__(
        self,
        files: Mapping[str, str],
        missing: float | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if not files:
            raise UserError("LoadSideBySide: files is empty; give folder='bgr' and the like")
        for folder, kind in files.items():
            check_choice(self, f"files.{folder}", kind, list(KINDS))
        kinds = [KINDS[kind] for kind in files.values()]
        super().__init__(
            sum(kind.bands for kind in kinds),
            "uint8" if {kind.dtype for kind in kinds} == {"uint8"} else "float32",
            display_bands=kinds[0].display,
            backend_args=backend_args,
        )
        self.files, self.missing = dict(files), missing
        self._colour = LoadCheckedImage(backend_args)

    def paths(self, img_path: str) -> list[str]:
        """The files that are read for a picture; itself first."""
        img_path = str(img_path)
        beside, name = dirname(dirname(img_path)), basename(img_path)
        return [img_path, *(join(beside, folder, name) for folder in list(self.files)[1:])]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the keys named above to ``results``."""
        paths = self.paths(results["img_path"])
        planes = [self._plane(*pair) for pair in zip(paths, self.files.values(), strict=True)]
        for path, plane in zip(paths, planes, strict=True):
            if plane.shape[:2] != planes[0].shape[:2]:
                raise UserError(
                    f"{path}: {width_by_height(plane.shape)}, but {paths[0]} has "
                    f"{width_by_height(planes[0].shape)}; give files of the same picture"
                )
        img = np.concatenate(planes, axis=-1).astype(self.dtype, copy=False)
        results["img"] = img
        results["img_shape"] = results["ori_shape"] = img.shape[:2]
        results["display_bands"] = self.display_bands
        return results

    def _plane(self, path: str, kind: str) -> np.ndarray:
        """A file as [H, W, bands] of its kind."""
        if KINDS[kind].bands == COLOURS:
            self._colour.check_size = self.check_size
            bgr = self._colour.transform({"img_path": path})["img"]
            return bgr if kind == "bgr" else bgr[..., ::-1]
        numbers = self._grey(path)
        return self._log(numbers, path) if kind == "log" else numbers

    def _grey(self, path: str) -> np.ndarray:
        """[H, W, 1] float32."""
        content = content_of(path, "image", self.backend_args)
        image = open_checked(content, path, "image", self.check_size)
        with damage_named(path, "image", content):
            image.load()
            check_rows(image, None, content)
            pixels = np.asarray(image)
        if pixels.ndim != 2 or image.mode == "P":
            raise UserError(
                f"{path}: a picture of mode {image.mode}, but LoadSideBySide in the config takes "
                "one channel; save it as grey, or have it read as 'bgr' or 'rgb'"
            )
        return pixels.astype(np.float32)[..., None]

    def _log(self, numbers: np.ndarray, path: str) -> np.ndarray:
        empty = numbers <= 0
        if empty.any() and self.missing is None:
            raise UserError(
                f"{path}: {empty.sum()} pixels of 0, which has no logarithm; fill them in, or set "
                "missing of LoadSideBySide to the mean of the band"
            )
        return np.where(empty, np.float32(self.missing or 0), np.log(np.where(empty, 1, numbers)))
