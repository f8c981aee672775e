"""The host's segmentor, predicting labels without scores of the image's size."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.models.bypass import has_own
from fcn_plugin.models.coarse import Axis, CoarseScores, axis, in_single, labels, upsample
from fcn_plugin.models.skip_fusion import SkipFusionHead

# What is not called on the way from coarse scores to labels; a subclass's own must be.
PASSED = ("encode_decode", "inference", "whole_inference", "postprocess_result")


def final_head(segmentor: Any) -> Any:
    """The head whose scores are the prediction, of a cascade the last; None if there is none."""
    heads = getattr(segmentor, "decode_head", None)
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads


@MODELS.register_module()
class FCNSegmentor(EncoderDecoder):
    """``EncoderDecoder`` in everything but the time and memory that a prediction takes.

    The host upsamples all scores to the network's input and again to the original image and ranks
    them there. Here labels come from the head's coarse scores in one step, block by block, with
    both resizings composed. ``seg_logits`` remain to be had, e.g. for test-time augmentation, and
    are computed when they are read. Sliding windows, learned upsampling, other heads, a single
    output channel, predictions with gradients and tracing take the host's way.
    """

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Images N x 3 x H x W to samples with ``pred_sem_seg`` (1 x H x W, int64) and
        ``seg_logits`` (C x H x W), H and W of the original image."""
        if data_samples is None or not self._goes_by_coarse_scores():
            return super().predict(inputs, data_samples)
        features = self.extract_feat(inputs)
        metas = [sample.metainfo for sample in data_samples]
        size = self.decode_head.image_size(features, metas)
        return add_predictions(self.decode_head.coarse(features, size), data_samples)

    def _goes_by_coarse_scores(self) -> bool:
        return (
            self.test_cfg.get("mode", "whole") == "whole"
            and isinstance(self.decode_head, SkipFusionHead)
            and self.decode_head.upsamples_by_matrices
            and not self.align_corners
            and not has_own(self, EncoderDecoder, PASSED)
            and not torch.is_grad_enabled()
            and not torch.jit.is_tracing()
        )


def add_predictions(coarse: CoarseScores, data_samples: list[SegDataSample]) -> list[SegDataSample]:
    """What the host's ``postprocess_result`` adds to each image's sample, from coarse scores."""
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
    """From the coarse scores to the pixels of the original image, as the host gets there.

    Padding is cut off, mirroring undone, and the rest resized.
    """
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", (0,) * 4))
    mirrored = meta.get("flip_direction") if meta.get("flip") else None
    (high, wide), scores = meta["ori_shape"][:2], coarse.scores
    (h, w), how = scores.shape[-2:], (coarse.zero_border, scores.dtype, scores.device)
    return (
        axis(coarse.rows, h, *how, high, (top, bottom), mirrored in ("vertical", "diagonal")),
        axis(coarse.cols, w, *how, wide, (left, right), mirrored in ("horizontal", "diagonal")),
    )


class ScoresOnDemand(PixelData):
    """``seg_logits`` whose ``data``, C x H x W, is computed when it is first read."""

    _coarse: tuple[Tensor, Axis, Axis] | None = None

    @classmethod
    def of(cls, scores: Tensor, rows: Axis, cols: Axis) -> "ScoresOnDemand":
        """From coarse scores 1 x C x h x w."""
        made = cls()
        # Past PixelData, which takes arrays of its own size only.
        object.__setattr__(made, "_coarse", (scores, rows, cols))
        made._data_fields.add("data")
        return made

    def __getattr__(self, name: str) -> Any:
        if name != "data" or self._coarse is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        data = upsample(*self._coarse)[0]
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "_coarse", None)
        return data

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W)"""
        if self._coarse is None:
            return super().shape
        _, rows, cols = self._coarse
        return len(rows), len(cols)

    def to_dict(self) -> dict[str, Any]:
        """For metrics: as of any ``PixelData``, and still on demand."""
        return _OnDemand(self)  # type: ignore[return-value]


# To the type checker every dict is a MutableMapping already; here all its methods are to be those
# that follow from the five below.
class _OnDemand(MutableMapping, dict):  # type: ignore[misc, metaclass]
    """A dictionary of the fields of a ``PixelData``, which are read when they are asked for."""

    def __init__(self, source: PixelData) -> None:
        super().__init__()
        self.source = source

    def __getitem__(self, key: str) -> Any:
        if key not in self.source.all_keys():
            raise KeyError(key)
        return getattr(self.source, key)

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self.source, key, value)

    def __delitem__(self, key: str) -> None:
        delattr(self.source, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.source.all_keys())

    def __len__(self) -> int:
        return len(self.source.all_keys())

    def copy(self) -> dict[str, Any]:
        return {key: self[key] for key in self}
