"""Predict an image in windows, so that no scores of its size exist."""

import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from fcn_plugin.models.coarse import Axis, axis, fine_scores, in_single, labels
from fcn_plugin.models.upsample import Placement
from fcn_plugin.prediction.reading import Picture
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.prediction.windows import Layout, Window

Run = Callable[[Tensor, SegDataSample], SegDataSample]


def predict_in_windows(
    picture: Picture,
    result: Prediction,
    run: Run,
    layouts: tuple[Layout, Layout],
    window: tuple[int, int],
    threshold: float,
    progress: Callable[[int, int], None],
) -> None:
    """Fill ``result`` window by window; to the network each is a small image of its own.

    Args:
        run: predicts an image 3 x h x w that belongs to a sample.
        window: most rows and columns of one, at the size of the network's input.
        threshold: of the probability of class 1, where the network has one score for two classes.
        progress: told the number of windows done, and of all.
    """
    (image,), (sample,) = picture.inputs, picture.samples
    sizes, original = tuple(image.shape[-2:]), result.labels.shape
    scales = [own / given for own, given in zip(original, sizes, strict=True)]
    rows, cols = (
        layout.cut(size, size if most >= size else layout.size(most))
        for layout, size, most in zip(layouts, sizes, window, strict=True)
    )
    result.windows = len(rows) * len(cols)
    for number, (row, col) in enumerate((row, col) for row in rows for col in cols):
        progress(number, result.windows)
        part = image[:, row.start : row.stop, col.start : col.stop]
        size = tuple(part.shape[-2:])
        meta = sample.metainfo | dict(img_shape=size, ori_shape=size, pad_shape=size)
        found = run(part, SegDataSample(metainfo=meta))
        places = tuple(
            slice(round(window.first * scale), round(window.beyond * scale))
            for window, scale in zip((row, col), scales, strict=True)
        )
        if sizes == original:
            _put(found, (row, col), places, result)
        else:
            _put_resized(found, (row, col), scales, places, threshold, result)
        _leave_to_the_file(result.probabilities)


def _put(
    found: SegDataSample,
    windows: tuple[Window, Window],
    places: tuple[slice, ...],
    result: Prediction,
) -> None:
    own = tuple(
        slice(window.first - window.start, window.beyond - window.start) for window in windows
    )
    result.labels[places] = label_array(found)[own]
    if result.probabilities is not None:
        scores = found.seg_logits.data[:, own[0], own[1]]
        result.probabilities[:, places[0], places[1]] = class_probabilities(scores)


def _put_resized(
    found: SegDataSample,
    windows: tuple[Window, Window],
    scales: list[float],
    places: tuple[slice, ...],
    threshold: float,
    result: Prediction,
) -> None:
    """As the host resizes scores from the network's input to the image."""
    scores = in_single(found.seg_logits.data)[None]
    if scores.shape[1] == 1:  # a probability already, and a certain one would be infinite
        scores = scores.logit(torch.finfo(scores.dtype).eps)
    rows, cols = (
        _resizing(window, scale, place, size, scores)
        for window, scale, place, size in zip(
            windows, scales, places, scores.shape[-2:], strict=True
        )
    )
    if scores.shape[1] == 1:
        chosen = fine_scores(scores, rows, cols)[0, 0].sigmoid() > threshold
    else:
        chosen = labels(scores, rows, cols)[0]
    result.labels[places] = chosen.cpu().numpy()
    if result.probabilities is not None:
        fine = fine_scores(scores, rows, cols)[0]
        fine = fine.sigmoid() if len(fine) == 1 else fine
        result.probabilities[:, places[0], places[1]] = class_probabilities(fine)


def _resizing(window: Window, scale: float, place: slice, size: int, like: Tensor) -> Axis:
    """From the ``size`` pixels of a window to those of ``place`` in the image."""
    # The centres of pixels x and y agree where x + 0.5 = scale * (y + 0.5).
    offset = (scale - 1) / 2 + scale * window.start
    to = Placement(scale, offset, place.start, place.stop - place.start)
    return axis(to, size, False, like.dtype, like.device)


def _leave_to_the_file(array: np.ndarray | None) -> None:
    """Of an array in a file, keep nothing in the memory of this process."""
    pages: Any = None if array is None else array.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def label_array(sample: SegDataSample) -> np.ndarray:
    """Predicted labels H x W, int32; the host's are of various shapes and types."""
    data = sample.pred_sem_seg.data
    return data.reshape(data.shape[-2:]).int().cpu().numpy()


def class_probabilities(scores: Tensor) -> np.ndarray:
    """C x H x W in float16 from scores; of one score, which the host has made a probability, 2."""
    if len(scores) == 1:
        return torch.cat((1 - scores, scores)).half().cpu().numpy()
    return in_single(scores).softmax(0).half().cpu().numpy()
