"""Picture files as bytes, for the tests of this folder and of any file in property/."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fcn_plugin.data.images import LoadCheckedImage
from fcn_plugin.data.labels import LoadCheckedLabel, read_label

RNG = np.random.default_rng(0)
HIGH, WIDE = 24, 16
# Smooth, so that JPEG keeps it; not symmetric, so that a turn shows.
RAMP = np.stack(
    np.broadcast_arrays(*np.ogrid[0 : 240 : HIGH * 1j, 0 : 120 : WIDE * 1j], 77), axis=-1
).astype(np.uint8)
NOISE = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
CLASSES = 5
LABEL = np.arange(HIGH * WIDE, dtype=np.uint8).reshape(HIGH, WIDE) % CLASSES


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_opencv(suffix: str, pixels: np.ndarray) -> bytes:
    """In BGR; Pillow writes no colours of 16 bits."""
    return cv2.imencode(suffix, pixels)[1].tobytes()


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def written(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)  # some file systems wait for the disk to write over a file
    path.write_bytes(content)
    return path


def load_image(path: Path, **settings) -> np.ndarray:
    return LoadCheckedImage(**settings).transform(dict(img_path=str(path)))["img"]


def load_label(path: Path, num_classes: int = 21, ignore_index: int = 255, **sample) -> np.ndarray:
    sample = dict(seg_map_path=str(path), seg_fields=[], reduce_zero_label=False) | sample
    return LoadCheckedLabel(num_classes, ignore_index=ignore_index).transform(sample)["gt_seg_map"]


READERS = dict(image=load_image, label=read_label)
