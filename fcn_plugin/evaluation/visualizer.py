"""mmseg's visualizer for images of any memory layout."""

from typing import Any

import numpy as np
from mmseg.registry import VISUALIZERS
from mmseg.visualization import SegLocalVisualizer


@VISUALIZERS.register_module()
class AnyLayoutVisualizer(SegLocalVisualizer):
    """mmseg's ``SegLocalVisualizer``; the image may also be a view, such as a transposed tensor.

    In mmseg 1.2.2 OpenCV refuses to write class names on a view, and mmseg's own
    ``browse_dataset.py`` hands over views. Arguments are mmseg's.
    """

    def add_datasample(self, name: str, image: np.ndarray, *args: Any, **kwargs: Any) -> None:
        """Draw a sample on ``image``, [H, W, 3] uint8, RGB, and save or show it."""
        super().add_datasample(name, np.ascontiguousarray(image), *args, **kwargs)
