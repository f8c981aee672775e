"""From an image to what the network is given, by the config's test pipeline without labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmcv.transforms import BaseTransform, LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose
from mmseg.datasets.transforms import LoadDepthAnnotation
from mmseg.structures import SegDataSample
from PIL import Image
from torch import Tensor

from fcn_plugin.data.loading import CheckSize, LoadCheckedImage
from fcn_plugin.errors import UserError
from fcn_plugin.memory import check_picture

LABELS = (LoadAnnotations, LoadDepthAnnotation)


class Picture(NamedTuple):
    """An image that was read, and what the network is given of it.

    Attributes:
        image: H x W x 3, uint8, BGR.
        inputs: 3 x h x w as the test pipeline leaves it; several with test-time augmentation.
        samples: what belongs to each of them.
    """

    image: np.ndarray
    inputs: tuple[Tensor, ...]
    samples: tuple[SegDataSample, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Pictures of one shape can be predicted together."""
        return tuple(size for one in self.inputs for size in one.shape)

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of the image, then of what the network is given."""
        return [each[:2] for each in (self.image.shape, *(one.shape[-2:] for one in self.inputs))]

    @property
    def resized(self) -> bool:
        """Whether the network is given another size."""
        return self.sizes[1] != self.sizes[0]


class Reader:
    """Reads images as a test pipeline does.

    Args:
        pipeline: config of its steps; the first loads the image.

    Attributes:
        check_size: refuses a picture by its path, width and height, before it is decoded.
    """

    check_size: CheckSize = staticmethod(check_picture)

    def __init__(self, pipeline: list[dict]) -> None:
        steps = Compose(pipeline)
        load = steps.transforms.pop(0) if steps.transforms else None
        if not isinstance(load, LoadImageFromFile):
            raise UserError(
                "the test pipeline of the config does not begin with LoadImageFromFile; only "
                "images can be predicted"
            )
        # The host's would make up what is missing of a truncated file.
        plain = type(load) is LoadImageFromFile and load.color_type == "color"
        if plain and not load.to_float32:
            load = LoadCheckedImage(load.backend_args)
        _drop_labels(steps)
        if isinstance(load, LoadCheckedImage):
            load.check_size = lambda path, size: self.check_size(path, size)
        self._load: BaseTransform = load
        self._prepare: Callable[[dict], dict[str, Any]] = steps

    def __call__(self, image: str | Path | np.ndarray | Image.Image) -> Picture:
        """Load and prepare an image: a file, a picture of Pillow, or H x W x 3 uint8 in BGR.

        Raises:
            UserError: it cannot be read, or is no such array.
        """
        if isinstance(image, str | Path):
            results = self._load(dict(img_path=str(image)))
        else:
            pixels = _bgr(image)
            size = pixels.shape[:2]
            results = dict(img=pixels, img_shape=size, ori_shape=size, img_path="the image")
        loaded = results["img"]
        packed = self._prepare(results)
        inputs, samples = packed["inputs"], packed["data_samples"]
        if not isinstance(inputs, list):
            inputs, samples = [inputs], [samples]
        return Picture(loaded, tuple(inputs), tuple(samples))


def _drop_labels(steps: Compose) -> None:
    """Take the steps that load labels out, also within test-time augmentation."""
    steps.transforms = [step for step in steps.transforms if not isinstance(step, LABELS)]
    for step in steps.transforms:
        for variant in getattr(step, "subroutines", ()):
            _drop_labels(variant)


def _bgr(image: np.ndarray | Image.Image) -> np.ndarray:
    if isinstance(image, Image.Image):
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UserError(
            f"an array of shape {image.shape} and {image.dtype} is no image; give H x W x 3, "
            "uint8, in BGR"
        )
    return image
