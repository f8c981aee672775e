"""A segmentor as one module from pixels to labels, with tensors only, ready to export."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.checks.input import channel_order
from fcn_plugin.data.numbering import numbering_of
from fcn_plugin.export.resizing import Resizing
from fcn_plugin.models.segmentor import final_head
from fcn_plugin.prediction.network import image_channels
from fcn_plugin.weights.sources import BANDS


class Deployed(nn.Module):
    """Maps images to labels or scores of the same size, with mmseg's pre- and postprocessing.

    Class numbers are those of ``model.dataset_meta``, if the model has it.

    Pixels are normalised and padded as the model's data preprocessor does in testing, and the
    padding is cut off again. The network sees the whole image; ``test_cfg`` is ignored.

    Args:
        model: any built segmentor from mmseg's registry.
        argmax: return labels N x H x W in the numbers of the data set's label files, uint8 (int64
            if one is above 255); otherwise scores N x C x H x W before softmax or sigmoid, in the
            order of the classes.
        preprocessing: take images N x H x W x 3, RGB in 0-255, of any dtype, or other bands and
            values if the network was trained on them, as its loader gives them; otherwise take
            N x 3 x H x W as returned by ``prepared``.
        resizing: resize uint8 images first, as part of the preprocessing; labels and scores still
            have the size of the images.
    """

    def __init__(
        self,
        model: nn.Module,
        argmax: bool = True,
        preprocessing: bool = True,
        resizing: Resizing | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.argmax = argmax
        self.preprocessing = preprocessing
        self.resizing = resizing if preprocessing else None
        self.order = channel_order(model.data_preprocessor)
        # mmseg's preprocessor has all of these attributes, others only some.
        preprocessor = vars(model.data_preprocessor)
        padding = preprocessor.get("test_cfg") or {}
        self.least_size: tuple[int, int] | None = padding.get("size")
        # mmseg ignores the divisor if there is a size.
        self.size_divisor = 1 if self.least_size else padding.get("size_divisor") or 1
        self.pad_value = preprocessor.get("pad_val", 0)
        self.head = final_head(model)
        meta = getattr(model, "dataset_meta", None) or {}
        self.numbering = numbering_of(meta, max(self.head.num_classes, 2))
        self.numbers = self.numbering.numbers
        self.table: Tensor
        table = torch.tensor(self.numbers, device=next(model.parameters()).device)
        self.register_buffer("table", table, persistent=False)

    @property
    def channels(self) -> int:
        return image_channels(self.model)

    @property
    def takes_rgb(self) -> bool:
        """Whether images are given as RGB, though the config's loader gives BGR."""
        return self.order != BANDS and self.channels == 3

    @property
    def normal(self) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation, 3 x 1 x 1, in 0-255, in the network's channel order.

        None if pixels are not normalised.
        """
        preprocessor: Any = self.model.data_preprocessor
        return (preprocessor.mean, preprocessor.std) if hasattr(preprocessor, "mean") else None

    def forward(self, image: Tensor) -> Tensor:
        if self.preprocessing:
            scores = self.enlarged(self.scores(self.prepared(image)), image)
        else:
            scores = self.scores(image)
        return self.labels(scores) if self.argmax else scores

    def prepared(self, image: Tensor) -> Tensor:
        """The network's input N x 3 x h x w, from images N x H x W x 3, RGB in 0-255."""
        image = image.permute(0, 3, 1, 2)
        if self.order == "BGR" and self.takes_rgb:
            image = image.flip(1)
        if self.resizing:
            image = self.resizing(image)
        image = image.to(next(self.model.parameters()).dtype)
        if self.normal is None:
            return image
        mean, std = self.normal
        return (image - mean) / std

    def scores(self, image: Tensor) -> Tensor:
        """Scores N x C x H x W of normalised images N x 3 x H x W."""
        rows, cols = image.shape[-2:]
        image = self._padded(image)
        size = (image.shape[-2], image.shape[-1])
        meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
        scores = self.model.encode_decode(image, [meta])
        return scores[..., :rows, :cols] if self._pads else scores

    def enlarged(self, scores: Tensor, image: Tensor) -> Tensor:
        """Scores at the size of the images N x H x W x 3; unchanged without ``resizing``."""
        if self.resizing is None:
            return scores
        size = (image.shape[1], image.shape[2])
        aligned = self.model.align_corners
        return functional.interpolate(scores, size=size, mode="bilinear", align_corners=aligned)

    def labels(self, scores: Tensor) -> Tensor:
        """Labels N x H x W in the data set's numbers, from scores N x C x H x W."""
        if scores.shape[1] == 1:
            indices = (scores[:, 0].sigmoid() > self.head.threshold).long()
        else:
            indices = scores.argmax(1)
        dtype = torch.uint8 if max(self.numbers) <= 255 else torch.int64
        if self.numbers == tuple(range(len(self.numbers))):
            return indices.to(dtype)
        return self.table[indices].to(dtype)

    @property
    def _pads(self) -> bool:
        return self.least_size is not None or self.size_divisor > 1

    def _padded(self, image: Tensor) -> Tensor:
        if not self._pads:
            return image
        rows, cols = image.shape[-2:]
        if self.least_size is not None:
            least_rows, least_cols = self.least_size
            below, beside = max(least_rows - rows, 0), max(least_cols - cols, 0)
        else:
            below, beside = -rows % self.size_divisor, -cols % self.size_divisor
        return functional.pad(image, (0, beside, 0, below), value=self.pad_value)
