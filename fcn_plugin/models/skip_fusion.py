"""Skip fusion, the FCN decoder (CVPR section 4.2, PAMI section 4.3).

One score layer on each level; the deepest scores are upsampled onto the next finer grid and
summed into its scores, and so on; the sum is upsampled to the image. Three levels are FCN-8s,
two FCN-16s, one FCN-32s. With pool3, pool4 and fc7 of a 500 x 500 image, reference padding:

    score_fr 16 -> upscore2 34 + score_pool4 44 [5:39] -> upscore_pool4 70
    + score_pool3 88 [9:79] -> upscore8 568 [31:531] = 500
"""

from collections.abc import Sequence
from itertools import accumulate, repeat
from math import ceil, floor, isclose, log2
from operator import mul
from typing import cast

import torch
from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from fcn_plugin.errors import UserError
from fcn_plugin.geometry import AxisMap
from fcn_plugin.models.bypass import has_own, is_hooked
from fcn_plugin.models.coarse import CoarseScores
from fcn_plugin.models.features import Features
from fcn_plugin.models.loss import applies, blockwise_losses
from fcn_plugin.models.upsample import UPSAMPLINGS, Bilinear, Deconv, Placement, Upsampling

IMAGE = AxisMap().in_floats()
# What is not called where scores are not upsampled as a whole; a subclass's own must be.
PASSED = ("forward", "loss_by_feat", "predict", "predict_by_feat")


@MODELS.register_module()
class SkipFusionHead(BaseDecodeHead):
    """Scores on feature levels, fused from the deepest to the finest, then to the image.

    The geometry comes from the backbone (``Features``) where it tells; with any other backbone
    from the sizes of the levels, whatever their strides, equal ones included.

    Args:
        in_channels: channels of each level, finest first; a number for one level.
        in_index: which of the backbone's outputs, finest first.
        num_classes: classes to score.
        upsample: 'bilinear' (fixed), 'deconv' (learned, starts as bilinear) or 'nearest'.
        scale: fixed factors on the levels before their score layers, finest first; of FCN-8s at
            once (0.0001, 0.01, 1.0). A checkpoint carries them, and one with others is refused.
        strides: strides of the levels in the image, finest first. Only 'deconv' needs them, to
            size its kernels, and says so if the features show others; default: the deepest at 32
            and each finer at half of that.
        kernels: sides of the 'deconv' kernels, finest first; default: twice the factor, e.g. 16
            for 8. AlexNet and GoogLeNet take one less, their levels lie on pixels.
        dropout_ratio: of whole channels before the score layers (the backbone's own dropout is
            element-wise).
        loss_decode, ignore_index, sampler, out_channels, threshold: as the host's heads;
            the default loss is cross entropy, averaged over valid pixels.
        blockwise: compute loss and labels without scores of the image's size, where the
            upsampling is bilinear and the loss is one cross entropy (``loss``,
            ``FCNSegmentor``); the same numbers. False never does.
        init_cfg: default: score layers start at zero (Caffe ``net.py``).

    Attributes:
        together: in training by several processes, whether a blockwise mean loss is over the
            pixels of all. Then each waits for the others; set it to False where one runs alone.
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
        init_cfg: dict | list | None = None,
    ) -> None:
        in_channels = _as_tuple(in_channels)
        in_index = _as_tuple(in_index)
        if len(in_channels) != len(in_index) or not in_index:
            raise UserError(
                f"SkipFusionHead: in_channels {in_channels} and in_index {in_index} must name the "
                "same levels, at least one"
            )
        if upsample not in UPSAMPLINGS:
            raise UserError(
                f"SkipFusionHead: upsample {upsample!r}, must be one of {list(UPSAMPLINGS)}"
            )
        for setting, values in (("scale", scale), ("strides", strides), ("kernels", kernels)):
            if values is not None and len(values) != len(in_channels):
                raise UserError(
                    f"SkipFusionHead: {setting} {tuple(values)} must have one for each of "
                    f"{len(in_channels)} levels"
                )
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
        # The host's heads have one classifier; here each level has its own.
        del self.conv_seg
        self.score = nn.ModuleList(nn.Conv2d(c, self.out_channels, 1) for c in in_channels)
        self.upsample = upsample
        self.blockwise = blockwise
        self.factors = _factors(strides, len(in_channels))
        self.upscore = nn.ModuleList(
            UPSAMPLINGS[upsample](self.out_channels, factor, kernel)
            for factor, kernel in zip(self.factors, kernels or repeat(None), strict=False)
        )
        self.scale = None if scale is None else tuple(map(float, scale))
        if self.scale is not None:
            # Only for the checkpoint to tell what its score layers were trained with.
            self.register_buffer("level_scale", torch.tensor(self.scale))
        self.register_load_state_dict_pre_hook(_honour_checkpoint)

    def forward(self, inputs: Sequence[Tensor], size: tuple[int, int] | None = None) -> Tensor:
        """Fused scores N x C x H x W.

        ``size`` is the (H, W) of the image; default: as the backbone tells it. A backbone that
        does not gives scores of the finest level's size.
        """
        if size is None and not isinstance(inputs, Features):
            return self.fuse(inputs)[0]
        return self.upscore[0](*self.coarse(inputs, size))

    def coarse(self, inputs: Sequence[Tensor], size: tuple[int, int] | None = None) -> CoarseScores:
        """Fused scores on the finest level's grid, and where the image's pixels lie there.

        ``size`` is the (H, W) of the image; a backbone that tells it needs none.
        """
        if isinstance(inputs, Features):
            if size is not None and tuple(size) != tuple(inputs.image_size):
                raise UserError(
                    f"SkipFusionHead: a label of {tuple(size)} for an image of "
                    f"{tuple(inputs.image_size)}; labels must be transformed with their images"
                )
            size = inputs.image_size
        assert size is not None
        if not isinstance(inputs, Features) and not torch.compiler.is_compiling():
            self._check_strides(self._levels(inputs), size)
        scores, grid, zero_border = self.fuse(inputs)
        rows, cols = self._place(0, scores, size, grid and grid.within(IMAGE))
        return CoarseScores(scores, rows, cols, zero_border)

    @property
    def upsamples_by_matrices(self) -> bool:
        """Whether what ``forward`` returns is what ``coarse`` does, bilinearly interpolated."""
        return (
            self.blockwise
            and self.out_channels > 1
            and type(self.upscore[0]) is Bilinear
            and not has_own(self, SkipFusionHead, PASSED)
            and not (is_hooked(self) or is_hooked(self.upscore[0]))
        )

    def fuse(self, inputs: Sequence[Tensor]) -> tuple[Tensor, AxisMap | None, bool]:
        """Sum all levels' scores on the finest grid.

        Returns the scores N x C x h x w, their place in the image if the backbone tells it, and
        whether zeros lie beyond them.
        """
        levels = self._levels(inputs)
        known = inputs if isinstance(inputs, Features) else None
        zero_border = known is not None and known.zero_border
        grids = [known.maps[i] if known else None for i in self.in_index]
        fused, grid = self._score(-1, levels), grids[-1]
        for i in reversed(range(len(levels) - 1)):
            skip, finer = self._score(i, levels), grids[i]
            step = grid.within(finer) if grid and finer else None
            rows, cols = self._place(i + 1, fused, skip.shape[-2:], step, canvas=zero_border)
            skip = skip[..., rows.pixels, cols.pixels]
            fused = self.upscore[i + 1](fused, rows, cols, zero_border) + skip
            grid = finer and finer.shifted(rows.start)
        return fused, grid, zero_border

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: list[SegDataSample], train_cfg: dict
    ) -> dict[str, Tensor]:
        """The host's losses on scores of exactly the labels' size."""
        size = batch_data_samples[0].gt_sem_seg.shape
        if self.upsamples_by_matrices and applies(self.loss_decode, self.sampler):
            labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
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
        """Scores N x C x H x W of exactly the image that the backbone was given."""
        return self(inputs, self.image_size(inputs, batch_img_metas))

    @staticmethod
    def image_size(inputs: Sequence[Tensor], batch_img_metas: list[dict]) -> tuple[int, int]:
        """(H, W) of the image that the backbone was given."""
        if isinstance(inputs, Features):
            return inputs.image_size
        # As the host does: a sliding window puts its own size under img_shape, a torch.Size.
        meta = batch_img_metas[0]
        window = isinstance(meta["img_shape"], torch.Size)
        size = meta["img_shape"] if window else meta.get("pad_shape", meta["img_shape"])
        return size[0], size[1]

    def _levels(self, inputs: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """The chosen levels, or a UserError where they are not as in_channels says.

        One map that is in no tuple is the level, whatever its index: DDRNet and PIDNet return the
        second of their levels so when they predict.
        """
        in_index: Sequence[int] = self.in_index
        if isinstance(inputs, Tensor):
            inputs, in_index = (inputs,), range(len(in_index))
        if max(in_index) >= len(inputs):
            raise UserError(
                f"SkipFusionHead: in_index {self.in_index}, but the backbone returns only "
                f"{len(inputs)} levels; see its out_indices"
            )
        levels = [inputs[i] for i in in_index]
        channels = tuple(level.shape[1] for level in levels)
        if channels != self.in_channels:
            raise UserError(
                f"SkipFusionHead: in_channels is {self.in_channels}, but levels {self.in_index} "
                f"of the backbone have {channels} channels; set in_channels={channels}"
            )
        return levels

    def _check_strides(self, levels: Sequence[Tensor], size: tuple[int, int]) -> None:
        """A UserError where learned kernels were built for other strides than the levels show."""
        sizes = [size, *(tuple(level.shape[-2:]) for level in levels)]
        fits = [
            upscore.scale(coarse, fine) == upscore.factor
            for upscore, finer, coarser in zip(self.upscore, sizes, sizes[1:], strict=False)
            if isinstance(upscore, Deconv)
            for fine, coarse in zip(finer, coarser, strict=True)
        ]
        # Sizes are rounded, strides are powers of two.
        shown = tuple(2 ** round(log2(max(size) / max(level))) for level in sizes[1:])
        if all(fits) or shown != tuple(sorted(shown)):  # of the wrong order ``_place`` tells
            return
        given = tuple(accumulate(self.factors, mul))
        remedy = f"strides={shown}" if shown != given else "upsample='bilinear'"
        raise UserError(
            f"SkipFusionHead: learned upsampling for strides {given}, but levels {self.in_index} "
            f"of an image of {size} have {sizes[1:]} pixels; set {remedy}"
        )

    def _score(self, i: int, levels: list[Tensor]) -> Tensor:
        level = levels[i] if self.dropout is None else self.dropout(levels[i])
        if self.scale and self.scale[i] != 1:
            level = level * self.scale[i]
        return self.score[i](level)

    def _place(
        self,
        level: int,
        scores: Tensor,
        size: Sequence[int],
        step: AxisMap | None,
        canvas: bool = False,
    ) -> list[Placement]:
        """Where ``scores`` go on the next finer grid of ``size``, by rows and by columns.

        ``step`` places them; without it both grids are taken to cover the same area.
        ``canvas`` asks for all that a transposed convolution yields, which then limits the
        finer grid; otherwise for the whole finer grid.
        """
        upsampling = cast(Upsampling, self.upscore[level])
        places = []
        for coarse, fine in zip(scores.shape[-2:], size, strict=True):
            scale = float(step.scale) if step else upsampling.scale(coarse, fine)
            offset = float(step.offset) if step else (scale - 1) / 2
            # Of a size that is not known yet, in a graph, the ratio cannot be compared.
            if level > 0 and (step.scale < 1 if step else fine < coarse):
                raise UserError(
                    f"SkipFusionHead: in_index {self.in_index} puts a level of {coarse} pixels "
                    f"behind one of {fine}; give in_index and in_channels finest first"
                )
            start, length = 0, fine
            if canvas and step:
                # From the first to the last pixel of the canvas that is not all zeros.
                reach = upsampling.radius(scale)
                start = max(floor(offset - reach) + 1, 0)
                # Of a canvas the scale is whole, which lets sizes remain integers in a graph.
                end = ceil(offset + reach) + (coarse - 1) * int(scale)
                length = min(end, fine) - start
            places.append(Placement(scale, offset, start, length))
        return places


def _honour_checkpoint(head: SkipFusionHead, state_dict: dict, prefix: str, *_: object) -> None:
    """Before a checkpoint is loaded, by whatever loader: what the host's would only warn of.

    Learned kernels are used although the head was built with fixed ones, and then not trained;
    factors before the score layers that are not the head's are an error.
    """
    if not any(name.startswith(f"{prefix}score.") for name in state_dict):
        return
    stored = state_dict.get(f"{prefix}level_scale")
    found = None if stored is None else tuple(stored.tolist())
    if not _same_scale(found, head.scale):
        raise UserError(
            f"SkipFusionHead: the checkpoint was trained with scale={found}, the config has "
            f"{head.scale}; set model.decode_head.scale={found}"
        )
    for i, (upsampling, factor) in enumerate(zip(head.upscore, head.factors, strict=True)):
        kernel = state_dict.get(f"{prefix}upscore.{i}.deconv.weight")
        if kernel is None:
            if isinstance(upsampling, Deconv) and head.upsample != "deconv":
                # Of another checkpoint that was loaded before.
                head.upscore[i] = UPSAMPLINGS[head.upsample](head.out_channels, factor)
        elif kernel.shape[0] == head.out_channels and not isinstance(upsampling, Deconv):
            like = cast(nn.Conv2d, head.score[i]).weight
            learned = Deconv(head.out_channels, factor, kernel.shape[-1])
            head.upscore[i] = learned.to(like).requires_grad_(False)
            print_log(
                f"SkipFusionHead: upscore.{i} uses the learned kernel of the checkpoint, fixed; "
                "upsample='deconv' trains it",
                "current",
            )


def _same_scale(a: tuple[float, ...] | None, b: tuple[float, ...] | None) -> bool:
    """Whether the factors agree, even if they were stored in bfloat16, with three digits."""
    if a is None or b is None or len(a) != len(b):
        return a is b
    return all(isclose(x, y, rel_tol=1e-2) for x, y in zip(a, b, strict=True))


def _as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _factors(strides: Sequence[int] | None, levels: int) -> list[int]:
    """How far each level's scores are upsampled: the finest onto the image, each other onto the
    next finer."""
    if strides is None:
        strides = [max(1, 32 >> deeper) for deeper in reversed(range(levels))]
    pairs = list(zip(strides, [1, *strides[:-1]], strict=True))
    if any(stride < 1 or stride % finer for stride, finer in pairs):
        raise UserError(
            f"SkipFusionHead: strides {tuple(strides)} must each be a multiple of the one before, "
            "finest first"
        )
    return [stride // finer for stride, finer in pairs]
