"""Heads of the host on the convolutionalized backbones.

With the settings of the host's own configs. A head of one level takes the deepest, of convolutions
alone; the pyramid of PSP or ASPP takes the place of fc6 and fc7.
"""

from typing import Any, NamedTuple

from pairing.pair import ALL, CLASSES, FINEST, Pair

BN = dict(type="BN")
DEEPEST = -1
# The levels at strides 4, 8, 16 and 32; AlexNet begins at 8.
BACKBONES = {
    "ConvolutionalizedVGG": dict(depth=16, out_indices=(1, 2, 3, 4)),
    "ConvolutionalizedAlexNet": dict(out_indices=(0, 1, 2)),
    "ConvolutionalizedGoogLeNet": dict(out_indices=(0, 1, 2, 4)),
}
SMALL_BACKBONES = {
    "ConvolutionalizedVGG": dict(depth=11, base_channels=4),
    "ConvolutionalizedAlexNet": dict(base_channels=4),
    "ConvolutionalizedGoogLeNet": dict(base_channels=8),
}


class Head(NamedTuple):
    """A head of the host, or a cascade of them.

    Attributes:
        config: ``decode_head``, as in ``Pair.model``.
        small: as of a ``Pair``, but for the backbone.
        neck: between backbone and head.
        model: what else the model has, such as auxiliary heads.
        needs: as of a ``Pair``.
    """

    name: str
    config: dict | list[dict]
    small: dict[str, Any] = {}
    neck: dict | None = None
    model: dict[str, Any] = {}
    needs: str = ""

    def on(self, backbone: str) -> Pair:
        """As a pair with one of our backbones."""
        model = dict(
            backbone=dict(type=backbone, **BACKBONES[backbone]),
            decode_head=self.config,
            **self.model,
        )
        small = dict(backbone=SMALL_BACKBONES[backbone], **self.small)
        if self.neck:
            model["neck"] = self.neck
        return Pair(self.name, model, small, needs=self.needs)


def head(type: str, in_index: Any = DEEPEST, channels: int = 512, **settings: Any) -> dict:
    """A head's config, without what is the same for all or follows from the backbone."""
    common = dict(num_classes=CLASSES, norm_cfg=BN, align_corners=False)
    return common | dict(type=type, in_index=in_index, channels=channels, **settings)


def auxiliary(in_index: int = -2, weight: float = 0.4, channels: int = 256) -> dict:
    """The host's usual auxiliary head, on the level before the deepest."""
    return head(
        "FCNHead",
        in_index,
        channels,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=weight),
    )


def context(
    name: str, type: str, small: dict | None = None, needs: str = "", **settings: Any
) -> Head:
    """A head with the usual auxiliary head; of one level unless the settings say otherwise."""
    smaller = dict(decode_head=dict(channels=16) | (small or {}), auxiliary_head=dict(channels=8))
    model = dict(auxiliary_head=auxiliary())
    return Head(name, head(type, **settings), smaller, model=model, needs=needs)


POOLS = (1, 2, 3, 6)
ATROUS = (1, 12, 24, 36)
ATTENTION = dict(reduction=2, use_scale=True, mode="embedded_gaussian")
FPN = dict(type="FPN", out_channels=256, num_outs=4)


def kernel_update(channels: int) -> dict:
    """One of K-Net's rounds of updating its kernels."""
    updator = dict(
        type="KernelUpdator",
        in_channels=channels // 2,
        feat_channels=channels // 2,
        out_channels=channels // 2,
        act_cfg=dict(type="ReLU", inplace=True),
        norm_cfg=dict(type="LN"),
    )
    return dict(
        type="KernelUpdateHead",
        num_classes=CLASSES,
        in_channels=channels,
        out_channels=channels,
        feedforward_channels=4 * channels,
        feat_transform_cfg=dict(conv_cfg=dict(type="Conv2d"), act_cfg=None),
        kernel_updator_cfg=updator,
    )


HEADS = [
    context("FCN", "FCNHead"),
    context("FCN, depthwise separable", "DepthwiseSeparableFCNHead"),
    context("PSP", "PSPHead", pool_scales=POOLS),
    context("ASPP (DeepLabV3)", "ASPPHead", dilations=ATROUS),
    context(
        "separable ASPP (DeepLabV3+)",
        "DepthwiseSeparableASPPHead",
        dilations=ATROUS,
        c1_in_channels=FINEST,
        c1_channels=48,
    ),
    context("ANN", "ANNHead", in_index=(-2, -1), project_channels=256),
    context("APC", "APCHead", pool_scales=POOLS),
    context("CC", "CCHead", recurrence=2),
    context("DA", "DAHead", pam_channels=64),
    context("NL", "NLHead", **ATTENTION),
    context("DNL", "DNLHead", **ATTENTION),
    context(
        "EMA",
        "EMAHead",
        dict(ema_channels=16),
        channels=256,
        ema_channels=512,
        num_bases=64,
        num_stages=3,
    ),
    context("Enc", "EncHead", in_index=(-3, -2, -1), num_codes=32, use_se_loss=True),
    context("GC", "GCHead"),
    context("ISA", "ISAHead", dict(isa_channels=8), isa_channels=256, down_factor=(8, 8)),
    context("PSA", "PSAHead", mask_size=(97, 97), psa_type="bi-direction", needs="mmcv"),
    context(
        "SETR, progressive",
        "SETRUPHead",
        channels=256,
        num_convs=4,
        up_scale=2,
        kernel_size=3,
    ),
    context(
        "Segmenter's mask transformer",
        "SegmenterMaskTransformerHead",
        dict(embed_dims=16, num_heads=2),
        channels=768,
        num_layers=2,
        num_heads=12,
        embed_dims=768,
        norm_cfg=dict(type="LN"),
    ),
    context("UPer", "UPerHead", in_index=ALL, pool_scales=POOLS),
    context("SegFormer", "SegformerHead", in_index=ALL, channels=256),
    context(
        "Hamburger (SegNeXt)",
        "LightHamHead",
        dict(ham_channels=16, norm_cfg=dict(num_groups=4)),
        in_index=(-3, -2, -1),
        channels=256,
        ham_channels=256,
        ham_kwargs=dict(MD_R=16, rand_init=False),  # otherwise its answer is another each time
        norm_cfg=dict(type="GN", num_groups=32),
    ),
    Head(
        "FPN, with its neck",
        head("FPNHead", ALL, 128, feature_strides=[4, 8, 16, 32]),
        dict(neck=dict(out_channels=8), decode_head=dict(channels=8)),
        FPN,
    ),
    Head(
        "OCR behind FCN, in a cascade",
        [
            auxiliary(DEEPEST),
            head("OCRHead", ocr_channels=256),
        ],
        dict(decode_head={"0": dict(channels=8), "1": dict(channels=16, ocr_channels=8)}),
    ),
    Head(
        "PointRend behind FPN",
        [
            head("FPNHead", ALL, 128, feature_strides=[4, 8, 16, 32]),
            dict(type="PointHead", in_index=[0], channels=256, num_classes=CLASSES, num_fcs=3),
        ],
        dict(neck=dict(out_channels=8), decode_head={"0": dict(channels=8), "1": dict(channels=8)}),
        FPN,
        dict(
            train_cfg=dict(num_points=2048, oversample_ratio=3, importance_sample_ratio=0.75),
            test_cfg=dict(
                mode="whole", subdivision_steps=2, subdivision_num_points=8196, scale_factor=2
            ),
        ),
    ),
    Head(
        "K-Net behind FCN",
        dict(
            type="IterativeDecodeHead",
            num_stages=3,
            kernel_update_head=[kernel_update(512)] * 3,
            kernel_generate_head=head("FCNHead", num_convs=2),
        ),
        dict(
            decode_head=dict(
                num_stages=1,
                kernel_update_head=[kernel_update(16)],
                kernel_generate_head=dict(channels=16),
            ),
            auxiliary_head=dict(channels=8),
        ),
        model=dict(auxiliary_head=auxiliary()),
    ),
    Head(
        "FCN, with STDC's boundary head",
        head("FCNHead"),
        dict(decode_head=dict(channels=8), auxiliary_head=dict(channels=8)),
        model=dict(
            auxiliary_head=head(
                "STDCHead",
                0,
                64,
                num_classes=2,
                num_convs=1,
                concat_input=False,
                loss_decode=[
                    dict(type="CrossEntropyLoss", loss_name="loss_ce", use_sigmoid=True),
                    dict(type="DiceLoss", loss_name="loss_dice"),
                ],
            )
        ),
    ),
]

# Heads of the host that do not take these levels, and why.
OTHERS = {
    "DM": "wants plain memory (NCHW), ours is channels-last",
    "DDR, PID": "take the branches of their own backbone, two or three in training, one after it",
    "DPT": "takes the tokens of a ViT, class token included",
    "LRASPP": "averages 49 x 49 pixels of its deepest level, more than there are at stride 32",
    "MaskFormer, Mask2Former": "are mmdet's; not tried",
    "SETR, MLA": "joins levels of one size, those of a ViT",
    "SideAdapterCLIP": "takes an image and the texts of CLIP",
    "VPDDepth": "estimates depth, not classes",
}
