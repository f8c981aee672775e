"""Skip fusion, the FCN decoder (CVPR section 4.2, PAMI section 4.3).

Each level has a score layer. The deepest scores are upsampled onto the next finer level's grid and
added to its scores, and so on; the sum is upsampled to the image. Three levels make FCN-8s, two
FCN-16s, one FCN-32s. With pool3, pool4 and fc7 of a 500 x 500 image, reference padding:

    score_fr 16 -> upscore2 34 + score_pool4 44 [5:39] -> upscore_pool4 70
    + score_pool3 88 [9:79] -> upscore8 568 [31:531] = 500
"""

from collections.abc import Sequence
from itertools import repeat

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.errors import UserError, check_choice
from fcn_plugin.geometry import AxisMap
from fcn_plugin.models.coarse import CoarseScores
from fcn_plugin.models.features import Features
from fcn_plugin.models.head_checks import (
    check_levels,
    check_order,
    check_settings,
    check_strides,
    match_checkpoint,
)
from fcn_plugin.models.layers import is_hooked, overrides
from fcn_plugin.models.loss import blockwise_losses, is_supported
from fcn_plugin.models.upsample import (
    KINDS,
    Bilinear,
    Placement,
    new_upsampling,
    placements,
)

IMAGE = AxisMap().in_floats()
# Methods the blockwise path does not call. If a subclass overrides one, upsample whole scores.
BYPASSED = ("forward", "loss_by_feat", "predict", "predict_by_feat")


@MODELS.register_module()
class SkipFusionHead(BaseDecodeHead):
    """Scores on feature levels, fused from the deepest to the finest, then to the image.

    The geometry comes from the backbone if it returns ``Features``, else from the sizes of the
    levels, whose strides may be any, also equal ones.

    Args:
        in_channels: channels of each level, finest first; a number for one level.
        in_index: indices of the levels in the backbone's outputs, finest first.
        num_classes: classes to score.
        upsample: 'bilinear' (fixed), 'nearest', 'deconv' (learned, starts as bilinear), or
            'conv2d_transpose', as TensorFlow's with padding 'same': learned, with a bias, and
            zeros beyond the scores.
        scale: fixed factors that multiply the levels before their score layers, finest first;
            for FCN-8s trained at once (0.0001, 0.01, 1.0). Checkpoints store them; a checkpoint
            with other factors is refused.
        strides: strides of the levels in the image, finest first. Only learned kinds need them, to
            size their kernels; levels of other strides raise an error. Default: 32 for the deepest
            level, and half as much for each finer one.
        kernels: sides of the learned kernels, finest first; default: twice the factor, e.g. 16
            for 8. AlexNet and GoogLeNet need one less: their pixels lie on finer pixels.
        dropout_ratio: drops whole channels before the score layers (the backbone's own dropout
            is element-wise).
        loss_decode, ignore_index, sampler, out_channels, threshold: as in mmseg; the default
            loss is cross entropy, averaged over valid pixels.
        blockwise: compute loss and labels (``loss``, ``FCNSegmentor``) without full-resolution
            scores where the upsampling is bilinear and the loss is one cross entropy, with the
            same results. False: never.
        zero_border: upsample as if zeros lay beyond the levels, as transposed convolutions do in
            Caffe and TensorFlow. By default the outermost scores continue, except with the
            backbone's padding 'reference', which has zeros there in any case.
        init_cfg: default: score layers start at zero (Caffe ``net.py``).

    Attributes:
        together: whether a blockwise mean loss is over the pixels of all training processes. Each
            then waits for the others; set it to False where one process runs alone.

    Raises:
        UserError: the settings, the backbone's levels and a checkpoint do not fit together.
    """

    together = True

    def __init__(
        self,
        in_channels: int | Sequence[int],
        in_index: int | Sequence[int],
        num_classes: int,
        upsample: str = "bilinear",
        scale: Sequence[float] | None = None,
        strides: Sequence[int] | None = None,
        kernels: Sequence[int] | None = None,
        dropout_ratio: float = 0.0,
        loss_decode: dict | Sequence[dict] | None = None,
        ignore_index: int = 255,
        sampler: dict | None = None,
        out_channels: int | None = None,
        threshold: float | None = None,
        blockwise: bool = True,
        zero_border: bool = False,
        init_cfg: dict | list | None = None,
    ) -> None:
        in_channels = _as_tuple(in_channels)
        in_index = _as_tuple(in_index)
        check_choice(self, "upsample", upsample, KINDS)
        check_settings(in_channels, in_index, scale=scale, strides=strides, kernels=kernels)
        super().__init__(
            in_channels,
            in_channels[0],
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold,
            dropout_ratio=dropout_ratio,
            in_index=in_index,
            input_transform="multiple_select",
            loss_decode=loss_decode
            or dict(type="CrossEntropyLoss", avg_non_ignore=True, use_sigmoid=out_channels == 1),
            ignore_index=ignore_index,
            sampler=sampler,
            init_cfg=init_cfg or dict(type="Constant", layer="Conv2d", val=0),
        )
        # mmseg's heads have one score layer; here each level has its own.
        del self.conv_seg
        self.score = nn.ModuleList(nn.Conv2d(c, self.out_channels, 1) for c in in_channels)
        self.upsample = upsample
        self.blockwise = blockwise
        self.zero_border = zero_border
        self.factors = _factors(strides, len(in_channels))
        self.upscore = nn.ModuleList(
            new_upsampling(upsample, self.out_channels, factor, kernel)
            for factor, kernel in zip(self.factors, kernels or repeat(None), strict=False)
        )
        self.scale = None if scale is None else tuple(map(float, scale))
        if self.scale is not None:
            # Stored in checkpoints: the factors that the score layers were trained with.
            self.register_buffer("level_scale", torch.tensor(self.scale))
        self.register_load_state_dict_pre_hook(match_checkpoint)

    def forward(self, inputs: Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Fused scores N x C x H x W.

        ``size`` is the (H, W) of the image. Without it ``Features`` give scores of their image's
        size, other inputs scores of the finest level's size.
        """
        if size is None and not isinstance(inputs, Features):
            levels = self._levels(inputs)
            return self._fuse(levels, self._place(levels), self.zero_border)
        return self.upscore[0](*self.coarse(inputs, size))

    def coarse(self, inputs: Sequence[Tensor], size: tuple[int, int] | None = None) -> CoarseScores:
        """Fused scores on the finest level's grid, and where the image's pixels lie there.

        ``size`` is the (H, W) of the image; ``Features`` need none.
        """
        levels, maps, zero_border = self._levels(inputs), None, self.zero_border
        if isinstance(inputs, Features):
            if size is not None and tuple(size) != tuple(inputs.image_size):
                raise UserError(
                    f"SkipFusionHead: a label of {tuple(size)} for an image of "
                    f"{tuple(inputs.image_size)}; labels must be transformed with their images"
                )
            size, zero_border = inputs.image_size, zero_border or inputs.zero_border
            maps = [IMAGE, *(inputs.maps[i] for i in self.in_index)]
        assert size is not None
        if maps is None and not torch.compiler.is_compiling():
            check_strides(self, levels, size)
        *steps, (rows, cols) = self._place(levels, size, maps, zero_border)
        return CoarseScores(self._fuse(levels, steps, zero_border), rows, cols, zero_border)

    @property
    def upsamples_by_matrices(self) -> bool:
        """Whether ``forward`` returns the scores of ``coarse``, bilinearly interpolated."""
        return (
            self.blockwise
            and self.out_channels > 1
            and type(self.upscore[0]) is Bilinear
            and not overrides(self, SkipFusionHead, BYPASSED)
            and not (is_hooked(self) or is_hooked(self.upscore[0]))
        )

    @property
    def loss_is_blockwise(self) -> bool:
        """Whether the losses are those of ``blockwise_losses``."""
        return self.upsamples_by_matrices and is_supported(self.loss_decode, self.sampler)

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: list[SegDataSample], train_cfg: dict
    ) -> dict[str, Tensor]:
        """mmseg's losses, on scores of exactly the labels' size."""
        size = batch_data_samples[0].gt_sem_seg.shape
        if self.loss_is_blockwise:
            labels = torch.cat([sample.gt_sem_seg.data for sample in batch_data_samples])
            return blockwise_losses(
                self.coarse(inputs, size),
                labels,
                self.loss_decode,
                self.sampler,
                self.ignore_index,
                together=self.training and self.together,
            )
        return self.loss_by_feat(self(inputs, size), batch_data_samples)

    def predict(
        self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: dict
    ) -> Tensor:
        """Scores N x C x H x W of exactly the size of the backbone's input image."""
        return self(inputs, self.image_size(inputs, batch_img_metas))

    @staticmethod
    def image_size(inputs: Sequence[Tensor], batch_img_metas: list[dict]) -> tuple[int, int]:
        """(H, W) of the backbone's input image."""
        if isinstance(inputs, Features):
            return inputs.image_size
        # mmseg's sliding window sets img_shape to its own size, a torch.Size.
        meta = batch_img_metas[0]
        window = isinstance(meta["img_shape"], torch.Size)
        size = meta["img_shape"] if window else meta.get("pad_shape", meta["img_shape"])
        return size[0], size[1]

    def _levels(self, inputs: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """The levels of ``in_index``.

        A single tensor is the level, whatever its index: in prediction DDRNet and PIDNet return
        only their second level, outside a tuple.
        """
        in_index: Sequence[int] = self.in_index
        if isinstance(inputs, Tensor):
            inputs, in_index = (inputs,), range(len(in_index))
        check_levels(self, inputs, in_index)
        return [inputs[i] for i in in_index]

    def _place(
        self,
        levels: Sequence[Tensor],
        size: tuple[int, int] | None = None,
        maps: Sequence[AxisMap] | None = None,
        crop_to_reach: bool = False,
    ) -> list[tuple[Placement, Placement]]:
        """``placements`` of each level on the next finer one and, if ``size`` is given, the image.

        ``maps`` are the maps of the image and the levels.
        """
        sizes: list[Sequence[int]] = [level.shape[-2:] for level in levels]
        check_order(self, sizes, maps)
        if size is None:
            return placements(sizes, maps, list(self.upscore)[1:], crop_to_reach)
        return placements([size, *sizes], maps, self.upscore, crop_to_reach)

    def _fuse(
        self,
        levels: Sequence[Tensor],
        steps: Sequence[tuple[Placement, Placement]],
        zero_border: bool,
    ) -> Tensor:
        """Sum of all levels' scores on the finest grid, N x C x h x w.

        ``zero_border``: zeros lie beyond the levels; otherwise their outermost scores continue.
        """
        fused = self._score(-1, levels)
        for i, (rows, cols) in zip(reversed(range(len(levels) - 1)), steps, strict=True):
            skip = self._score(i, levels)[..., rows.pixels, cols.pixels]
            fused = self.upscore[i + 1](fused, rows, cols, zero_border) + skip
        return fused

    def _score(self, i: int, levels: Sequence[Tensor]) -> Tensor:
        level = levels[i] if self.dropout is None else self.dropout(levels[i])
        if self.scale and self.scale[i] != 1:
            level = level * self.scale[i]
        return self.score[i](level)


def _as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _factors(strides: Sequence[int] | None, levels: int) -> list[int]:
    """Upsampling factors: of the finest level to the image, of each other to the next finer."""
    if strides is None:
        strides = [max(1, 32 >> deeper) for deeper in reversed(range(levels))]
    return [stride // finer for stride, finer in zip(strides, [1, *strides[:-1]], strict=True)]
