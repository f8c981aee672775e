"""SegNet's decoder: max unpooling, then convolutions, as often as the encoder pools (1511.00561).

The other way to upsample in a fully convolutional network. Each value returns to the pixel that its
max pooling took it from, between zeros, and trained convolutions fill these; no level of the
encoder is copied, only its switches. With pool5 of a 360 x 480 image, VGG16 and C classes:

    unpool5 23 x 30 -> conv5_3_D, conv5_2_D, conv5_1_D  512, 512, 512
    unpool4 45 x 60 -> conv4_3_D, conv4_2_D, conv4_1_D  512, 512, 256
    unpool3 90 x 120 -> conv3_3_D, conv3_2_D, conv3_1_D  256, 256, 128
    unpool2 180 x 240 -> conv2_2_D, conv2_1_D  128, 64
    unpool1 360 x 480 -> conv1_2_D  64, then conv_seg, conv1_1_D of the files  C
"""

from collections.abc import Sequence

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn import functional

from fcn_plugin.errors import UserError, check_choice
from fcn_plugin.models.classifier import FROM_SCRATCH
from fcn_plugin.models.coarse import CoarseScores
from fcn_plugin.models.features import Features, Switches
from fcn_plugin.models.layers import add_conv
from fcn_plugin.models.loss import blockwise_losses, is_supported
from fcn_plugin.models.plain_gradient import PlainGradientConv
from fcn_plugin.models.upsample import Placement
from fcn_plugin.models.vgg import WIDTHS
from fcn_plugin.weights.networks import VGG_CONVS


def unpool(x: Tensor, switches: Switches) -> Tensor:
    """N x C x H x W: the values of ``x`` where their pooling took them from, zero elsewhere."""
    height, width = switches.size
    if torch.are_deterministic_algorithms_enabled() or torch.compiler.is_exporting():
        # Torch's operator is several times faster, but raises in the first case on a GPU, and
        # cannot be written as ONNX.
        zeros = x.new_zeros(*x.shape[:2], height * width)
        filled = zeros.scatter(2, switches.indices.flatten(2), x.flatten(2))
        return filled.unflatten(2, (height, width))
    return functional.max_unpool2d(x, switches.indices, (2, 2), (2, 2), (0, 0), (height, width))


@MODELS.register_module()
class UnpoolingHead(BaseDecodeHead):
    """The mirror of a ``ConvolutionalizedVGG`` with ``switches=True``, from its pool5.

    Returns scores of the image's size. Takes pool5, N x in_channels x h x w, as ``Features`` with
    switches; necks, and backbones whose poolings overlap, give none.

    Args:
        in_channels: of pool5, 8 times the backbone's ``base_channels``.
        num_classes: classes to score.
        in_index: index of pool5 in the backbone's outputs.
        depth: the backbone's.
        norm_cfg: normalisation after every convolution but the last; ``dict(type='BN')`` in SegNet.
        loss_decode, ignore_index, sampler, out_channels, threshold, dropout_ratio: as in mmseg.
            Mean cross entropy also takes ``class_weight`` where pixels are ignored, and is the mean
            over the pixels of all processes (``loss.blockwise_losses``).
        init_cfg: He's by default, as in SegNet.

    Attributes:
        together: as of ``SkipFusionHead``.

    Raises:
        UserError: the backbone gives no switches, or another level than pool5.
    """

    together = True

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        in_index: int = -1,
        depth: int = 16,
        norm_cfg: dict | None = None,
        loss_decode: dict | Sequence[dict] | None = None,
        ignore_index: int = 255,
        sampler: dict | None = None,
        out_channels: int | None = None,
        threshold: float | None = None,
        dropout_ratio: float = 0.0,
        init_cfg: dict | list | None = None,
    ) -> None:
        check_choice(self, "depth", depth, list(VGG_CONVS))
        for name, value in (("in_channels", in_channels), ("in_index", in_index)):
            if not isinstance(value, int):
                raise UserError(
                    f"UnpoolingHead: {name}={value!r}, must be one number, that of pool5; the "
                    "other levels give no more than their switches"
                )
        base_channels, remainder = divmod(in_channels, WIDTHS[-1])
        if remainder or not base_channels:
            raise UserError(
                f"UnpoolingHead: in_channels {in_channels}, must be {WIDTHS[-1]} times the "
                "backbone's base_channels"
            )
        super().__init__(
            in_channels,
            base_channels,
            num_classes=num_classes,
            out_channels=out_channels,
            threshold=threshold,
            dropout_ratio=dropout_ratio,
            in_index=in_index,
            loss_decode=loss_decode
            or dict(type="CrossEntropyLoss", avg_non_ignore=True, use_sigmoid=out_channels == 1),
            ignore_index=ignore_index,
            sampler=sampler,
            init_cfg=init_cfg or FROM_SCRATCH,
        )
        # The encoder's convolutions from the last to the first, each to the channels it came from.
        self.stages = nn.ModuleList()
        widths = [base_channels * width for width in WIDTHS]
        for number in range(len(WIDTHS), 0, -1):
            stage = nn.Sequential()
            width, finer = widths[number - 1], widths[max(number - 2, 0)]
            for conv in range(VGG_CONVS[depth][number - 1], 0, -1):
                if (number, conv) != (1, 1):
                    name, channels = f"conv{number}_{conv}_D", finer if conv == 1 else width
                    add_conv(stage, name, width, channels, 3, padding=1, norm_cfg=norm_cfg)
            self.stages.append(stage)
        self.conv_seg = PlainGradientConv(base_channels, self.out_channels, 3, padding=1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Scores N x C x H x W of the image's size."""
        x, switches = self._pool5(inputs)
        for stage, of_pool in zip(self.stages, reversed(switches), strict=True):
            x = stage(unpool(x, of_pool))
        return self.cls_seg(x)

    @property
    def loss_is_blockwise(self) -> bool:
        """Whether the losses are those of ``blockwise_losses``."""
        return is_supported(self.loss_decode, self.sampler)

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """mmseg's losses, on labels of exactly the image's size."""
        labels = torch.cat([sample.gt_sem_seg.data for sample in batch_data_samples])
        size = tuple(seg_logits.shape[-2:])
        if labels.shape[-2:] != size:
            raise UserError(
                f"UnpoolingHead: a label of {tuple(labels.shape[-2:])} for an image of {size}; "
                "labels must be transformed with their images"
            )
        if not self.loss_is_blockwise:
            return super().loss_by_feat(seg_logits, batch_data_samples)
        # Each pixel of the image is one of the scores'.
        rows, cols = (Placement(scale=1.0, offset=0.0, start=0, length=side) for side in size)
        return blockwise_losses(
            CoarseScores(seg_logits, rows, cols, zero_border=False),
            labels,
            self.loss_decode,
            self.sampler,
            self.ignore_index,
            together=self.training and self.together,
        )

    def predict(
        self, inputs: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: dict
    ) -> Tensor:
        """Scores N x C x H x W of exactly the size of the backbone's input image."""
        return self(inputs)

    def _pool5(self, inputs: Sequence[Tensor]) -> tuple[Tensor, tuple[Switches, ...]]:
        """Pool5 and the switches of all poolings, first one first."""
        if not isinstance(inputs, Features) or not inputs.switches:
            raise UserError(
                "UnpoolingHead: the features have no pooling switches; take "
                "backbone=dict(type='ConvolutionalizedVGG', switches=True), without a neck "
                "(AlexNet and GoogLeNet pool overlapping windows, other backbones mostly do not "
                "pool)"
            )
        shape = inputs.switches[-1].indices.shape
        places = range(-len(inputs), len(inputs))
        level = inputs[self.in_index] if self.in_index in places else None
        if level is None or len(inputs.switches) != len(WIDTHS) or level.shape != shape:
            raise UserError(
                f"UnpoolingHead: in_index {self.in_index} is not pool5 of the backbone's "
                f"{len(inputs)} levels; give it by the backbone's out_indices=(4,) and in_index=0"
            )
        if level.shape[1] != self.in_channels:
            raise UserError(
                f"UnpoolingHead: in_channels is {self.in_channels}, but pool5 has "
                f"{level.shape[1]} channels; set in_channels={level.shape[1]}"
            )
        return level, inputs.switches
