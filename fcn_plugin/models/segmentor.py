"""mmseg's segmentor, which predicts labels without full-resolution scores, of one or more tasks."""

from collections import UserDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from mmengine.model import ModuleDict
from mmengine.structures import PixelData
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.data.tasks import check_task, fields
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.models.coarse import Axis, CoarseScores, axis, fine_scores, in_single, labels
from fcn_plugin.models.layers import overrides
from fcn_plugin.models.skip_fusion import SkipFusionHead

# Methods the fast path does not call. If a subclass overrides one, take mmseg's path.
BYPASSED = ("encode_decode", "inference", "whole_inference", "postprocess_result")


def final_head(segmentor: Any) -> Any:
    """The head whose scores are the prediction (the last of a cascade); None without a head."""
    heads = getattr(segmentor, "decode_head", None)
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads


def heads_of(segmentor: Any) -> Iterator[tuple[str | None, Any]]:
    """The heads whose scores are predictions: the main one (None), and each task's by its name."""
    yield None, final_head(segmentor)
    yield from getattr(segmentor, "task_heads", {}).items()


@MODELS.register_module()
class FCNSegmentor(EncoderDecoder):
    """An ``EncoderDecoder`` that predicts the same in less time and memory.

    mmseg upsamples all scores to the network's input and again to the original image, and takes
    their arg-max there. Here labels come from the head's coarse scores in one step, block by block,
    with both resizings composed. ``seg_logits``, e.g. for test-time augmentation, are computed when
    they are read. Sliding windows, learned upsampling, other heads, a single output channel,
    predictions with gradients and tracing take mmseg's path.

    Args:
        task_heads: further decode heads on the same features by the names of their tasks, e.g.
            ``dict(geo=dict(type="SkipFusionHead", ...))``. Each learns from ``gt_geo_seg``, its
            losses (``geo.loss_ce``) are added to the main head's, and it predicts ``pred_geo_seg``
            and ``geo_seg_logits``. ``mode="tensor"`` gives the main head's scores.
        **kwargs: as for ``EncoderDecoder``.

    Raises:
        UserError: a task has an impossible name, or a sample has no label of it.
    """

    def __init__(self, *args: Any, task_heads: dict[str, dict] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        for task in task_heads or ():
            check_task(task)
        heads = {task: MODELS.build(head) for task, head in (task_heads or {}).items()}
        self.task_heads = ModuleDict(heads)  # mmengine's, which initialises its modules

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """mmseg's losses of the main and the auxiliary heads, and each task's by its name."""
        if not self.task_heads:
            return super().loss(inputs, data_samples)
        heads: dict[str, Any] = {"decode": self.decode_head}
        auxiliary = getattr(self, "auxiliary_head", None)
        if isinstance(auxiliary, nn.ModuleList):
            heads |= {f"aux_{i}": head for i, head in enumerate(auxiliary)}
        elif auxiliary is not None:
            heads["aux"] = auxiliary
        losses: dict[str, Tensor] = {}
        features = self.extract_feat(inputs)
        for name, head in heads.items():
            losses |= add_prefix(head.loss(features, data_samples, self.train_cfg), name)
        further: Any = self.task_heads
        for task, head in further.items():
            samples = [of_task(sample, task, inputs, head) for sample in data_samples]
            losses |= add_prefix(head.loss(features, samples, self.train_cfg), task)
        return losses

    def predict(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> list[SegDataSample]:
        """Samples with ``pred_sem_seg`` (1 x H x W, int64) and ``seg_logits`` (C x H x W), H and W
        of the original image, for images N x 3 x H x W; and with those of each task."""
        if data_samples is not None and self._takes_coarse_scores():
            features = self.extract_feat(inputs)
            metas = [sample.metainfo for sample in data_samples]
            for task, head in heads_of(self):
                size = head.image_size(features, metas)
                add_predictions(head.coarse(features, size), data_samples, task)
            return data_samples
        # mmseg predicts with one head: it sees the images again for each task.
        predicted = super().predict(inputs, data_samples)
        for task in self.task_heads:
            samples = [SegDataSample(metainfo=s.metainfo) for s in data_samples or ()] or None
            with self._as_main(task):
                others = super().predict(inputs, samples)
            for sample, other in zip(predicted, others, strict=True):
                names = fields(task)
                sample.set_data(
                    {names.scores: other.seg_logits, names.prediction: other.pred_sem_seg}
                )
        return predicted

    @contextmanager
    def _as_main(self, task: str) -> Iterator[None]:
        """The task's head in the place of the main head."""
        main = self.decode_head
        try:
            self._set_main(self.task_heads[task])
            yield
        finally:
            self._set_main(main)

    def _set_main(self, head: Any) -> None:
        self.decode_head = head
        self.align_corners, self.out_channels = head.align_corners, head.out_channels
        self.num_classes = head.num_classes

    def keep_only(self, task: str | None) -> None:
        """Make a task's head the main one, and remove the other heads but the auxiliary."""
        if task is not None:
            self._set_main(self.task_heads[task])
        self.task_heads = ModuleDict()

    def _takes_coarse_scores(self) -> bool:
        return (
            self.test_cfg.get("mode", "whole") == "whole"
            and all(
                isinstance(head, SkipFusionHead)
                and head.upsamples_by_matrices
                and not head.align_corners
                for _, head in heads_of(self)
            )
            and not overrides(self, EncoderDecoder, BYPASSED)
            and not torch.is_grad_enabled()
            and not torch.jit.is_tracing()
        )


def of_task(sample: SegDataSample, task: str, inputs: Tensor, head: Any) -> SegDataSample:
    """A sample whose main label is that of a task, padded to the size of the images.

    mmseg's preprocessor pads the main label only.
    """
    name, image = fields(task).truth, sample.get("img_path", "a sample")
    if name not in sample:
        raise UserError(
            f"{image}: no label {name} to train the task {task!r}; "
            f"load it by LoadCheckedLabel(task={task!r}) and pack it by FastPackSegInputs"
        )
    label = sample.get(name).data
    (rows, cols), size = label.shape[-2:], inputs.shape[-2:]
    if rows > size[0] or cols > size[1]:
        raise UserError(
            f"{image}: label {name} of {width_by_height((rows, cols))} for an image of "
            f"{width_by_height(size)}; transform it with its image"
        )
    border = (0, size[1] - cols, 0, size[0] - rows)
    label = functional.pad(label, border, value=head.ignore_index)
    return SegDataSample(metainfo=sample.metainfo, gt_sem_seg=PixelData(data=label))


def add_predictions(
    coarse: CoarseScores, data_samples: list[SegDataSample], task: str | None = None
) -> list[SegDataSample]:
    """The samples with labels and scores, as from mmseg's ``postprocess_result``."""
    names = fields(task)
    for scores, sample in zip(in_single(coarse.scores).split(1), data_samples, strict=True):
        axes = original_axes(coarse._replace(scores=scores), sample.metainfo)
        sample.set_data(
            {
                names.scores: ScoresOnDemand.of(scores, *axes),
                names.prediction: PixelData(data=labels(scores, *axes)),
            }
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

    @property
    def coarse(self) -> tuple[Tensor, Axis, Axis] | None:
        """The coarse scores 1 x C x h x w and their axes; None after ``data`` has been read."""
        return self.__dict__.get("_coarse")

    def to_dict(self) -> dict[str, Any]:
        """A dict for metrics; ``data`` is still computed when it is read."""
        return FieldsOnDemand(self)


class FieldsOnDemand(UserDict, dict):  # type: ignore[misc]
    """The fields of ``ScoresOnDemand``, computed when they are read; a dict to ``isinstance``."""

    def __init__(self, pixels: ScoresOnDemand) -> None:
        super().__init__(dict.fromkeys(pixels.all_keys()))
        self.pixels = pixels

    def __getitem__(self, key: str) -> Any:
        return getattr(self.pixels, key) if self.data[key] is None else self.data[key]

    @property
    def coarse(self) -> tuple[Tensor, Axis, Axis] | None:
        """As of ``ScoresOnDemand``."""
        return self.pixels.coarse
