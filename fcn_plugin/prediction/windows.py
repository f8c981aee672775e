"""Predict an image in windows, so that no scores of its size exist.

Along one axis, with a margin of m:

    |<---- window 0 ---->|
    |    kept    |   m   |
              |<------ window 1 ------>|
              |  m |    kept       | m |

Windows begin at multiples of the network's stride, so that their features lie on the grid of the
whole image. The border of a window changes scores as far as half the receptive field reaches; with
a margin of that width, the kept part equals the prediction of the whole image.
"""

import mmap
from collections.abc import Callable, Sequence
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np
import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.geometry import receptive_field
from fcn_plugin.models.classifier import ConvolutionalizedClassifier
from fcn_plugin.models.coarse import Axis, axis, fine_scores, in_single, labels
from fcn_plugin.models.skip_fusion import SkipFusionHead
from fcn_plugin.models.streams import Streams
from fcn_plugin.models.upsample import Placement
from fcn_plugin.prediction.reading import Picture
from fcn_plugin.prediction.result import Prediction
from fcn_plugin.system.progress import Progress, silent

# In pixels, for networks of unknown stride and receptive field. Most see further, but weakly.
STRIDE, MARGIN = 32, 256
# In pixels; smaller windows would be mostly margin.
SMALLEST = 128

Run = Callable[[Tensor, SegDataSample], SegDataSample]


class Window(NamedTuple):
    """Pixels ``start`` .. ``stop - 1`` are predicted, ``first`` .. ``beyond - 1`` are kept."""

    start: int
    stop: int
    first: int
    beyond: int


class Layout(NamedTuple):
    """Rules for windows along one axis.

    Attributes:
        step: windows begin at multiples of ``step``.
        margin: pixels at either end of a window that are not kept.
        base: a window is ``base`` pixels plus a multiple of ``step`` long.
        smallest: least length of a window in pixels.
    """

    step: int
    margin: int
    base: int = 0
    smallest: int = SMALLEST

    def size(self, most: int) -> int:
        """Length of the largest window of at most ``most`` pixels."""
        return self.base + (most - self.base) // self.step * self.step

    def cut(self, length: int, size: int) -> list[Window]:
        """Windows of ``size`` that cover an axis of ``length``; the last ends where the axis ends.

        >>> [window[:] for window in Layout(step=8, margin=4).cut(length=50, size=32)]
        [(0, 32, 0, 28), (24, 50, 28, 50)]
        """
        if length <= size:
            return [Window(0, length, 0, length)]
        margin = self.margin if self.base else min(self.margin, size // 3)
        stride = (size - 2 * margin) // self.step * self.step
        last = -(-(length - size) // self.step) * self.step
        starts = [*range(0, last, stride), last]
        firsts = [0, *(start + margin for start in starts[1:]), length]
        return [
            Window(start, min(start + size, length), first, beyond)
            for start, first, beyond in zip(starts, firsts[:-1], firsts[1:], strict=True)
        ]


def layouts(model: nn.Module) -> tuple[Layout, Layout]:
    """The layouts of rows and columns that suit a network.

    If the config itself slides over images (``test_cfg.mode='slide'``), a window holds several of
    its crops, and each kept pixel is the mean of the same crops as in the whole image.
    """
    test_cfg = getattr(model, "test_cfg", None) or {}
    if isinstance(model, EncoderDecoder) and test_cfg.get("mode") == "slide":
        rows, cols = (
            # At least as many steps as put the image's last crop into the last window only.
            Layout(step, crop - step, crop, crop + -(-crop // step) * step)
            for crop, step in zip(test_cfg["crop_size"], test_cfg["stride"], strict=True)
        )
        return rows, cols
    layout = Layout(STRIDE, MARGIN)
    backbone: Any = getattr(model, "backbone", None)
    head = getattr(model, "decode_head", None)
    streams = backbone.streams if isinstance(backbone, Streams) else [backbone]
    known = all(isinstance(stream, ConvolutionalizedClassifier) for stream in streams)
    if known and isinstance(head, SkipFusionHead):
        # Upsampling reaches one more pixel of each level.
        strides = [int(backbone.maps[index].scale) for index in head.in_index]
        field = max(receptive_field(chain(*stream.layers)) for stream in streams)
        layout = Layout(max(strides), -(-field // 2) + sum(strides))
    return layout, layout


def predict_in_windows(
    picture: Picture,
    result: Prediction,
    run: Run,
    layouts: tuple[Layout, Layout],
    window: tuple[int, int],
    threshold: float = 0.5,
    progress: Progress = silent,
) -> None:
    """Fill ``result`` window by window; the network sees each window as an image.

    Args:
        run: predicts an image 3 x h x w with its sample.
        window: most rows and columns of a window, in pixels of the network's input.
        threshold: for the probability of class 1, if the network has one score for two classes.
        progress: called for each window.
    """
    (image,), (sample,) = picture.inputs, picture.samples
    sizes, original = tuple(image.shape[-2:]), result.labels.shape
    scales = [full / size for full, size in zip(original, sizes, strict=True)]
    rows, cols = (
        layout.cut(size, size if most >= size else layout.size(most))
        for layout, size, most in zip(layouts, sizes, window, strict=True)
    )
    result.windows = len(rows) * len(cols)
    for number, (row, col) in enumerate(product(rows, cols)):
        progress("An image in windows", number, result.windows)
        part = image[:, row.start : row.stop, col.start : col.stop]
        size = tuple(part.shape[-2:])
        meta = sample.metainfo | dict(img_shape=size, ori_shape=size, pad_shape=size)
        predicted = run(part, SegDataSample(metainfo=meta))
        if sizes == original:
            put(predicted, (row, col), result)
        else:
            _put_resized(predicted, (row, col), scales, threshold, result)
        for array in (result.labels, result.probabilities, result.confidence):
            _free_pages(array)


def put(predicted: SegDataSample, windows: Sequence[Window], result: Prediction) -> None:
    """Keep the part of a window in a result, row and column, that is to be kept."""
    row, col = (slice(window.first, window.beyond) for window in windows)
    in_row, in_col = (slice(w.first - w.start, w.beyond - w.start) for w in windows)
    labels = label_array(predicted)[in_row, in_col]
    _keep(result, row, col, labels, lambda: predicted.seg_logits.data[:, in_row, in_col])


def _keep(
    result: Prediction, row: slice, col: slice, labels: np.ndarray, scores: Callable[[], Tensor]
) -> None:
    """Put labels h x w into the result, and what is asked for of their scores C x h x w."""
    result.labels[row, col] = labels
    if result.scored:
        values = scores()
        if result.probabilities is not None:
            result.probabilities[:, row, col] = class_probabilities(values)
        if result.confidence is not None:
            result.confidence[row, col] = confidence(values, labels)


def _put_resized(
    predicted: SegDataSample,
    windows: tuple[Window, Window],
    scales: list[float],
    threshold: float,
    result: Prediction,
) -> None:
    """Resize the window's scores to the image as mmseg does, and keep its part of the result."""
    scores = in_single(predicted.seg_logits.data)[None]
    single = scores.shape[1] == 1
    if single:  # a probability; without eps the logit of 0 or 1 is infinite
        scores = scores.logit(torch.finfo(scores.dtype).eps)
    (row, rows), (col, cols) = (
        _resizing(window, scale, size, scores)
        for window, scale, size in zip(windows, scales, scores.shape[-2:], strict=True)
    )
    if single:
        chosen = fine_scores(scores, rows, cols)[0, 0].sigmoid() > threshold
    else:
        chosen = labels(scores, rows, cols)[0]

    def resized() -> Tensor:
        fine = fine_scores(scores, rows, cols)[0]
        return fine.sigmoid() if single else fine

    _keep(result, row, col, chosen.cpu().numpy(), resized)


def _resizing(window: Window, scale: float, size: int, like: Tensor) -> tuple[slice, Axis]:
    """The image's pixels that a window fills, and the resizing of its ``size`` pixels to them."""
    first, beyond = round(window.first * scale), round(window.beyond * scale)
    # The centres of pixels x and y agree where x + 0.5 = scale * (y + 0.5).
    placement = Placement(scale, (scale - 1) / 2 + scale * window.start, first, beyond - first)
    return slice(first, beyond), axis(placement, size, False, like.dtype, like.device)


def _free_pages(array: np.ndarray | None) -> None:
    """Drop the pages of a memory-mapped array from this process's memory."""
    pages: Any = None if array is None else array.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def label_array(sample: SegDataSample) -> np.ndarray:
    """Predicted labels H x W, int32; in mmseg, shape and type vary by model."""
    data = sample.pred_sem_seg.data
    return data.reshape(data.shape[-2:]).int().cpu().numpy()


def class_probabilities(scores: Tensor) -> np.ndarray:
    """C x H x W, float16, from scores; a single channel is the probability of class 1 of 2."""
    if len(scores) == 1:
        return torch.cat((1 - scores, scores)).half().cpu().numpy()
    return in_single(scores).softmax(0).half().cpu().numpy()


def confidence(scores: Tensor, labels: np.ndarray) -> np.ndarray:
    """H x W, uint8, from scores as in ``class_probabilities``: 255 p, rounded, of each label."""
    scores, chosen = in_single(scores), torch.from_numpy(labels).to(scores.device, torch.int64)
    if len(scores) == 1:
        probability = torch.where(chosen > 0, scores[0], 1 - scores[0])
    else:
        probability = (scores.gather(0, chosen[None])[0] - scores.logsumexp(0)).exp()
    return (255 * probability).round().byte().cpu().numpy()
