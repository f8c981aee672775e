"""The host's segmentor, predicting labels without scores of the image's size."""

from typing import Any

from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from fcn_plugin.models.blockwise_loss import CoarseScores
from fcn_plugin.models.coarse import Axis, labels, original_axis, upsample
from fcn_plugin.models.skip_fusion import SkipFusionHead


@MODELS.register_module()
class FCNSegmentor(EncoderDecoder):
    """``EncoderDecoder`` in everything but the time and memory that a prediction takes.

    The host upsamples all scores to the network's input and again to the original image and ranks
    them there. Here labels come from the head's coarse scores in one step, block by block, with
    both resizings composed. ``seg_logits`` remain to be had, e.g. for test-time augmentation, and
    are computed when they are read. Sliding windows, learned upsampling, other heads and a single
    output channel take the host's way.
    """

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Images N x 3 x H x W to samples with ``pred_sem_seg`` (1 x H x W, int64) and
        ``seg_logits`` (C x H x W), H and W of the original image."""
        if data_samples is None or not self._predicts_labels_only():
            return super().predict(inputs, data_samples)
        metas = [sample.metainfo for sample in data_samples]
        features = self.extract_feat(inputs)
        size = self.decode_head.image_size(features, metas)
        return add_predictions(self.decode_head.coarse(features, size), data_samples)

    def _predicts_labels_only(self) -> bool:
        head = self.decode_head
        return (
            self.test_cfg.get("mode", "whole") == "whole"
            and isinstance(head, SkipFusionHead)
            and head.upsamples_by_matrices
            and head.out_channels > 1
        )


def add_predictions(coarse: CoarseScores, data_samples: list[SegDataSample]) -> list[SegDataSample]:
    """What the host's ``postprocess_result`` adds to each image's sample, from coarse scores."""
    for scores, sample in zip(coarse.scores.split(1), data_samples, strict=True):
        axes = original_axes(coarse, sample.metainfo)
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
    left, right, top, bottom = meta.get("img_padding_size", meta.get("padding_size", [0] * 4))
    mirrored = meta.get("flip_direction") if meta.get("flip") else None
    (high, wide), (h, w) = meta["ori_shape"][:2], coarse.scores.shape[-2:]
    where = coarse.zero_border, coarse.scores
    return (
        original_axis(coarse.rows, h, high, (top, bottom), mirrored == "vertical", *where),
        original_axis(coarse.cols, w, wide, (left, right), mirrored == "horizontal", *where),
    )


class ScoresOnDemand(PixelData):
    """``seg_logits`` that are computed whenever ``data`` is read: C x H x W."""

    _coarse: tuple[Tensor, Axis, Axis] | None = None

    @classmethod
    def of(cls, scores: Tensor, rows: Axis, cols: Axis) -> "ScoresOnDemand":
        """From coarse scores 1 x C x h x w."""
        made = cls()
        # Past PixelData, which takes arrays of its own size only.
        object.__setattr__(made, "_coarse", (scores.detach(), rows, cols))
        made._data_fields.add("data")
        return made

    @property
    def data(self) -> Tensor:
        if self._coarse is None:
            return self._data
        return upsample(*self._coarse)[0]

    @data.setter
    def data(self, value: Tensor) -> None:
        # What .cpu(), .numpy() and the like put into the copy that they make.
        object.__setattr__(self, "_data", value)
        object.__setattr__(self, "_coarse", None)

    @property
    def shape(self) -> tuple[int, int] | None:
        """(H, W)"""
        if self._coarse is None:
            return super().shape
        _, rows, cols = self._coarse
        return len(rows), len(cols)

    def to_dict(self) -> dict[str, Any]:
        """For metrics: as of any ``PixelData``, and still on demand."""
        return _OnDemand(self)


class _OnDemand(dict):
    """A dictionary whose entry ``data`` is read from a ``PixelData`` when it is asked for."""

    def __init__(self, source: PixelData) -> None:
        super().__init__(source.metainfo_items())
        self.source = source

    def __missing__(self, key: str) -> Any:
        if key != "data":
            raise KeyError(key)
        return self.source.data
