"""mmseg's segmentor, which predicts labels without full-resolution scores."""

from collections import UserDict
from functools import cached_property
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.models.coarse import Axis, CoarseScores, axis, fine_scores, in_single, labels
from fcn_plugin.models.layers import overrides
from fcn_plugin.models.skip_fusion import SkipFusionHead

# Methods the fast path does not call. If a subclass overrides one, take mmseg's path.
BYPASSED = ("encode_decode", "inference", "whole_inference", "postprocess_result")


def final_head(segmentor: Any) -> Any:
    """The head whose scores are the prediction (the last of a cascade); None without a head."""
    heads = getattr(segmentor, "decode_head", None)
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads


@MODELS.register_module()
class FCNSegmentor(EncoderDecoder):
    """An ``EncoderDecoder`` that predicts the same in less time and memory.

    mmseg upsamples all scores to the network's input and again to the original image, and takes
    their arg-max there. Here labels come from the head's coarse scores in one step, block by block,
    with both resizings composed. ``seg_logits``, e.g. for test-time augmentation, are computed when
    they are read. Sliding windows, learned upsampling, other heads, a single output channel,
    predictions with gradients and tracing take mmseg's path.
    """

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Samples with ``pred_sem_seg`` (1 x H x W, int64) and ``seg_logits`` (C x H x W), H and W
        of the original image, for images N x 3 x H x W."""
        if data_samples is None or not self._takes_coarse_scores():
            return super().predict(inputs, data_samples)
        features = self.extract_feat(inputs)
        metas = [sample.metainfo for sample in data_samples]
        size = self.decode_head.image_size(features, metas)
        return add_predictions(self.decode_head.coarse(features, size), data_samples)

    def _takes_coarse_scores(self) -> bool:
        return (
            self.test_cfg.get("mode", "whole") == "whole"
            and isinstance(self.decode_head, SkipFusionHead)
            and self.decode_head.upsamples_by_matrices
            and not self.align_corners
            and not overrides(self, EncoderDecoder, BYPASSED)
            and not torch.is_grad_enabled()
            and not torch.jit.is_tracing()
        )


def add_predictions(coarse: CoarseScores, data_samples: list[SegDataSample]) -> list[SegDataSample]:
    """The samples with labels and scores, as from mmseg's ``postprocess_result``."""
    for scores, sample in zip(in_single(coarse.scores).split(1), data_samples, strict=True):
        axes = original_axes(coarse._replace(scores=scores), sample.metainfo)
        sample.set_data(
            dict(
                seg_logits=ScoresOnDemand.of(scores, *axes),
                pred_sem_seg=PixelData(data=labels(scores, *axes)),
            )
        )
    return data_samples


def original_axes(coarse: CoarseScores, meta: dict) -> tuple[Axis, Axis]:
    """Weights of the coarse scores in the rows and in the columns of the original image.

    As in mmseg padding is cut off, mirroring undone, and the rest resized.
    """
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", (0,) * 4))
    mirrored = meta.get("flip_direction") if meta.get("flip") else None
    (height, width), (h, w) = meta["ori_shape"][:2], coarse.scores.shape[-2:]
    common = coarse.zero_border, coarse.scores.dtype, coarse.scores.device
    return (
        axis(coarse.rows, h, *common, height, (top, bottom), mirrored in ("vertical", "diagonal")),
        axis(coarse.cols, w, *common, width, (left, right), mirrored in ("horizontal", "diagonal")),
    )


class ScoresOnDemand(PixelData):
    """``seg_logits`` whose ``data``, C x H x W, is computed when it is first read."""

    @classmethod
    def of(cls, scores: Tensor, rows: Axis, cols: Axis) -> "ScoresOnDemand":
        """From coarse scores 1 x C x h x w."""
        lazy = cls()
        # Not by setattr: a PixelData accepts only tensors of its own size.
        lazy.__dict__["_coarse"] = scores, rows, cols
        lazy.set_field(None, "data")
        del lazy.__dict__["data"]  # so that reading it calls the property
        return lazy

    @cached_property
    def data(self) -> Tensor:
        return fine_scores(*self.__dict__.pop("_coarse"))[0]

    def to_dict(self) -> dict[str, Any]:
        """A dict for metrics; ``data`` is still computed when it is read."""
        return _Fields(self)


class _Fields(UserDict, dict):  # type: ignore[misc]
    """The fields of a ``PixelData``, computed when they are read; a dict to ``isinstance``."""

    def __init__(self, pixels: PixelData) -> None:
        super().__init__(dict.fromkeys(pixels.all_keys()))
        self.pixels = pixels

    def __getitem__(self, key: str) -> Any:
        return getattr(self.pixels, key) if self.data[key] is None else self.data[key]
