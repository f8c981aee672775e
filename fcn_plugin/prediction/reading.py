"""Load an image and prepare it for the network with the config's test pipeline, without labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadDepthAnnotation
from mmseg.structures import SegDataSample
from PIL import Image, ImageFile
from torch import Tensor

from fcn_plugin.data.bands import LoadBands, as_loaded, checked_display, no_data
from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.originals import load_image
from fcn_plugin.data.picture_files import CheckSize
from fcn_plugin.errors import UserError
from fcn_plugin.system.files import is_special
from fcn_plugin.system.memory import check_picture

LABELS = (LoadAnnotations, LoadDepthAnnotation)


class Picture(NamedTuple):
    """An image, and the network inputs that the test pipeline makes from it.

    Attributes:
        image: as the pipeline loads it; usually H x W x 3, uint8, BGR.
        inputs: one C x h x w; with test-time augmentation, one per view.
        samples: the data sample of each input.
    """

    image: np.ndarray
    inputs: tuple[Tensor, ...]
    samples: tuple[SegDataSample, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of all inputs; pictures with equal shapes can share a batch."""
        return tuple(size for one in self.inputs for size in one.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the image and the inputs."""
        return self.image.nbytes + sum(one.nbytes for one in self.inputs)

    @property
    def factors(self) -> tuple[float, float]:
        """Factors of width and height by which the test pipeline resized the image."""
        width, height = self.samples[0].get("scale_factor", (1.0, 1.0))[:2]
        return float(width), float(height)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of the image, then of each input."""
        rows, cols = self.image.shape[:2]
        return [(rows, cols), *((one.shape[-2], one.shape[-1]) for one in self.inputs)]


class Reader:
    """Reads images as a config's test pipeline does.

    Args:
        pipeline: configs of the steps; the first loads the image, with any loader.
        channels: number of channels that the network takes.

    Attributes:
        loader: the first step.
        takes_bands: whether it is ``LoadBands``.
        check_size: called with path and (width, height) before an image is decoded; may refuse it.
        tells_size: whether a photo is loaded, and ``check_size`` called of each.
        display_bands: the bands to show, see ``data.display.shown``; None for those of a photo.
    """

    check_size: CheckSize = staticmethod(check_picture)

    def __init__(self, pipeline: list[dict], channels: int = 3) -> None:
        steps = Compose(pipeline)
        _drop_labels(steps)
        if not steps.transforms:
            raise UserError(
                "the test pipeline of the config is empty; add a step that loads images"
            )
        load = steps.transforms[0]
        usual = type(load) in (LoadImageFromFile, LoadCheckedImage)
        # Three bands of 8 bits. Images of any other loader are checked after loading.
        self.is_usual = usual and load.color_type == "color" and load.imdecode_backend != "tifffile"
        # mmcv's loader would fill the missing part of a truncated file.
        if type(load) is LoadImageFromFile and self.is_usual and not load.to_float32:
            load = steps.transforms[0] = LoadCheckedImage(load.backend_args)
        if isinstance(load, LoadCheckedImage | LoadBands):
            load.check_size = lambda path, size: self.check_size(path, size)
        self.takes_bands = isinstance(load, LoadBands)
        self.tells_size = self.is_usual and isinstance(load, LoadCheckedImage)
        self.channels = channels
        self.display_bands: tuple[int, ...] | None = getattr(load, "display_bands", None)
        self.loader, self._steps = load, steps.transforms

    def show(self, bands: Sequence[int]) -> None:
        """Set ``display_bands``, counted from 1, in place of the config's.

        Raises:
            UserError: there are no such bands, or the network takes photos.
        """
        if self.is_usual:
            raise UserError("--bands: the network takes photos, which are shown as they are")
        self.display_bands = checked_display(bands, self.channels, "--bands")

    def load(self, file: Path) -> np.ndarray:
        """The image as the pipeline's first step loads it, H x W or H x W x C."""
        results, _ = load_image(self._steps, dict(img_path=str(file)))
        return results["img"]

    def __call__(self, image: str | Path | np.ndarray | Image.Image) -> Picture:
        """Load and prepare an image: a file, a Pillow image, or H x W x 3, uint8, BGR.

        If the config has its own loader, an array must look as that loader returns it.

        Raises:
            UserError: the image cannot be read, or the array has another shape or type.
        """
        if isinstance(image, str | Path):
            if is_special(image):
                raise UserError(f"{image}: a pipe, device or socket; save the image to a file")
            results, loading = load_image(self._steps, dict(img_path=str(image)))
        else:
            pixels = self._pixels(image)
            size = pixels.shape[:2]
            results = dict(img=pixels, img_shape=size, ori_shape=size, img_path="the image")
            loading = 1
        loaded = results["img"]
        if not self.is_usual:
            self._check_bands(loaded, results["img_path"])
        packed = Compose(self._steps[loading:])(results)
        inputs, samples = packed["inputs"], packed["data_samples"]
        if not isinstance(inputs, list):
            inputs, samples = [inputs], [samples]
        return Picture(loaded, tuple(inputs), tuple(samples))

    def _pixels(self, image: np.ndarray | Image.Image) -> np.ndarray:
        """The array that the pipeline would load from a file of this image."""
        if isinstance(self.loader, LoadBands):
            if not isinstance(image, np.ndarray) or image.ndim != 3:
                raise UserError("the network takes bands; give a TIFF, or an array H x W x bands")
            pixels = as_loaded(image, "the image").copy()
            self.loader.check(pixels, "the image")
            pixels[no_data(pixels, None)] = self.loader.fill
            return pixels
        if isinstance(image, np.ndarray):
            bgr = image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size
            if self.is_usual and not bgr:
                raise UserError(
                    f"an array of shape {image.shape} and {image.dtype} is no image; give "
                    "H x W x 3, uint8, in BGR"
                )
            return image
        loader = self.loader if isinstance(self.loader, LoadCheckedImage) else LoadCheckedImage()
        name = str(getattr(image, "filename", "")) or "the image"
        content = _undecoded(image)
        return loader.convert(image, name) if content is None else loader.decode(content, name)

    def _check_bands(self, image: np.ndarray, name: str) -> None:
        bands = image.shape[2] if image.ndim == 3 else 1
        if image.ndim not in (2, 3) or bands != self.channels or not image.size:
            raise UserError(
                f"{name}: an image of shape {image.shape}, but the network takes H x W x "
                f"{self.channels}; give images like those it was trained on"
            )


def _drop_labels(steps: Compose) -> None:
    """Remove the steps that load labels, also inside test-time augmentation."""
    steps.transforms = [step for step in steps.transforms if not isinstance(step, LABELS)]
    for step in steps.transforms:
        for variant in getattr(step, "subroutines", ()):
            _drop_labels(variant)


def _undecoded(image: Image.Image) -> bytes | None:
    """The bytes of a file that Pillow has opened but not decoded or changed, else None.

    They are then decoded like any other file; JPEGs not by Pillow.
    """
    if not isinstance(image, ImageFile.ImageFile) or not image.tile or image.fp is None:
        return None
    if image.tell() > 0 or image.decoderconfig:  # not the first page, or a smaller draft
        return None
    position = image.fp.tell()
    image.fp.seek(0)
    content = image.fp.read()
    image.fp.seek(position)
    return content
