"""Backbones of the host, and through it of mmpretrain and timm, under ``SkipFusionHead``.

The smallest of each family. Levels are those at strides 8, 16 and 32 of FCN-8s where a backbone has
them, else what it has, finest first; what a backbone need not return it does not.
"""

from typing import Any

from pairing.pair import CLASSES, Pair

BN = dict(type="BN")
TOKENS = dict(img_size=(512, 512), patch_size=16, drop_path_rate=0.1)
FEW_TOKENS = dict(
    img_size=(64, 64), embed_dims=16, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3)
)
FOUR = [1, 1, 1, 1]


def pair(
    name: str,
    in_index: tuple[int, ...],
    neck: dict | None = None,
    small: dict | None = None,
    small_neck: dict | None = None,
    multiple: int = 1,
    fixed: bool = False,
    needs: str = "",
    **backbone: Any,
) -> Pair:
    """A backbone, by its settings, and what of it the head takes."""
    head = dict(type="SkipFusionHead", in_index=in_index, num_classes=CLASSES)
    model = dict(backbone=backbone, decode_head=head)
    smaller = dict(backbone=small or {})
    if neck:
        model["neck"], smaller["neck"] = neck, small_neck or {}
    return Pair(name, model, smaller, multiple, fixed, needs)


def icnet(base: int) -> dict:
    """ICNet's own backbone, dilated, and the widths that follow from it."""
    own = dict(
        type="ResNetV1c",
        depth=50,
        base_channels=base,
        stem_channels=base,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
    )
    return dict(backbone_cfg=own, layer_channels=(8 * base, 32 * base), psp_out_channels=8 * base)


STDC = dict(channels=(32, 64, 256, 512, 1024), num_convs=4, norm_cfg=BN, act_cfg=dict(type="ReLU"))
STDC1 = dict(type="STDCNet", stdc_type="STDCNet1", in_channels=3, bottleneck_type="cat", **STDC)
NARROW_STDC = dict(channels=(4, 8, 16, 32, 64))
LAST_THREE = (1, 2, 3)
DILATED = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
PYRAMID = dict(type="Feature2Pyramid", embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=BN)

BACKBONES = [
    pair(
        "ResNet-18",
        (0, 1, 2),
        type="ResNet",
        depth=18,
        out_indices=LAST_THREE,
        small=dict(base_channels=8),
    ),
    pair(
        "ResNet-50 v1c",
        (0, 1, 2),
        type="ResNetV1c",
        depth=50,
        out_indices=LAST_THREE,
        small=dict(depth=18, base_channels=8, stem_channels=8),
    ),
    pair(
        "ResNet-50 v1c, dilated",
        (0, 1, 2),
        type="ResNetV1c",
        depth=50,
        out_indices=LAST_THREE,
        contract_dilation=True,
        **DILATED,
        small=dict(depth=18, base_channels=8, stem_channels=8),
    ),
    pair(
        "ResNet-50 v1d",
        (0, 1, 2),
        type="ResNetV1d",
        depth=50,
        out_indices=LAST_THREE,
        small=dict(depth=18, base_channels=8, stem_channels=8),
    ),
    pair(
        "ResNeXt-50 32x4d",
        (0, 1, 2),
        type="ResNeXt",
        depth=50,
        groups=32,
        base_width=4,
        out_indices=LAST_THREE,
        small=dict(groups=2, base_channels=8, stem_channels=8),
    ),
    pair(
        "ResNeSt-50",
        (0, 1, 2),
        type="ResNeSt",
        depth=50,
        stem_channels=64,
        radix=2,
        reduction_factor=4,
        avg_down_stride=True,
        out_indices=LAST_THREE,
        small=dict(base_channels=8, stem_channels=8),
    ),
    pair(
        "HRNet-W18",
        (0, 1, 2, 3),
        type="HRNet",
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block="BOTTLENECK",
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block="BASIC",
                num_blocks=(4, 4),
                num_channels=(18, 36),
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block="BASIC",
                num_blocks=(4, 4, 4),
                num_channels=(18, 36, 72),
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block="BASIC",
                num_blocks=(4, 4, 4, 4),
                num_channels=(18, 36, 72, 144),
            ),
        ),
        small=dict(
            extra=dict(
                stage1=dict(num_blocks=(1,), num_channels=(4,)),
                stage2=dict(num_blocks=(1, 1), num_channels=(4, 8)),
                stage3=dict(num_modules=1, num_blocks=(1, 1, 1), num_channels=(4, 8, 12)),
                stage4=dict(num_modules=1, num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 12, 16)),
            )
        ),
    ),
    pair(
        "MobileNetV2",
        (0, 1, 2),
        type="MobileNetV2",
        out_indices=(2, 4, 6),
        small=dict(widen_factor=0.1),
    ),
    pair(
        "MobileNetV3, large",
        (0, 1, 2),
        type="MobileNetV3",
        arch="large",
        out_indices=(1, 3, 16),
        norm_cfg=BN,
    ),
    pair(
        "MobileNetV3, small",
        (0, 1, 2),
        type="MobileNetV3",
        arch="small",
        out_indices=(0, 1, 12),
        norm_cfg=BN,
    ),
    pair(
        "Swin-T",
        (0, 1, 2),
        type="SwinTransformer",
        out_indices=LAST_THREE,
        drop_path_rate=0.3,
        small=dict(embed_dims=8, depths=FOUR, num_heads=FOUR),
    ),
    pair(
        "MiT-b0",
        (0, 1, 2),
        type="MixVisionTransformer",
        embed_dims=32,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        out_indices=LAST_THREE,
        drop_path_rate=0.1,
        small=dict(embed_dims=8, num_layers=FOUR, num_heads=FOUR),
    ),
    pair(
        "MSCAN-T",
        LAST_THREE,
        type="MSCAN",
        embed_dims=[32, 64, 160, 256],
        depths=[3, 3, 5, 2],
        drop_path_rate=0.1,
        norm_cfg=BN,
        small=dict(embed_dims=[4, 8, 12, 16], depths=FOUR),
    ),
    pair(
        "Twins PCPVT-S",
        (0, 1, 2),
        type="PCPVT",
        embed_dims=[64, 128, 320, 512],
        num_heads=[1, 2, 5, 8],
        mlp_ratios=[8, 8, 4, 4],
        qkv_bias=True,
        depths=[3, 4, 6, 3],
        sr_ratios=[8, 4, 2, 1],
        out_indices=LAST_THREE,
        drop_path_rate=0.2,
        small=dict(embed_dims=[4, 8, 12, 16], num_heads=FOUR, depths=FOUR),
    ),
    pair(
        "Twins SVT-S",
        (0, 1, 2),
        type="SVT",
        embed_dims=[64, 128, 256, 512],
        num_heads=[2, 4, 8, 16],
        mlp_ratios=[4, 4, 4, 4],
        qkv_bias=True,
        depths=[2, 2, 10, 4],
        windiow_sizes=[7, 7, 7, 7],
        sr_ratios=[8, 4, 2, 1],
        out_indices=LAST_THREE,
        drop_path_rate=0.2,
        small=dict(embed_dims=[4, 8, 12, 16], num_heads=FOUR, depths=[2, 2, 2, 2]),
    ),
    pair(
        "ViT-B/16, MultiLevelNeck",
        (0, 1, 2),
        type="VisionTransformer",
        out_indices=(3, 7, 11),
        **TOKENS,
        neck=dict(type="MultiLevelNeck", out_channels=768, scales=[2, 1, 0.5]),
        small=dict(FEW_TOKENS, out_indices=(0, 1, 3)),
        small_neck=dict(out_channels=16),
    ),
    pair(
        "BEiT-B, Feature2Pyramid",
        (0, 1, 2, 3),
        type="BEiT",
        out_indices=(3, 5, 7, 11),
        init_values=0.1,
        qv_bias=True,
        **TOKENS,
        neck=PYRAMID,
        small=FEW_TOKENS,
        small_neck=dict(embed_dim=16),
        fixed=True,
    ),
    pair(
        "MAE-B, Feature2Pyramid",
        (0, 1, 2, 3),
        type="MAE",
        out_indices=(3, 5, 7, 11),
        init_values=1.0,
        **TOKENS,
        neck=PYRAMID,
        small=FEW_TOKENS,
        small_neck=dict(embed_dim=16),
        fixed=True,
    ),
    pair("STDC1", (0, 1, 2), **STDC1, small=NARROW_STDC),
    pair(
        "STDC1, context path",
        (3, 2, 1),
        type="STDCContextPathNet",
        backbone_cfg=dict(STDC1, with_final_conv=False),
        last_in_channels=(1024, 512),
        out_channels=128,
        ffm_cfg=dict(in_channels=384, out_channels=256, scale_factor=4),
        small=dict(
            backbone_cfg=NARROW_STDC,
            last_in_channels=(64, 32),
            out_channels=8,
            ffm_cfg=dict(in_channels=24, out_channels=16),
        ),
    ),
    pair(
        "UNet",
        (4, 3, 2, 1, 0),
        type="UNet",
        multiple=16,
        small=dict(base_channels=4),
    ),
    pair("CGNet", (0, 1, 2), type="CGNet", norm_cfg=BN, small=dict(num_blocks=(1, 2))),
    pair("ERFNet", (0,), type="ERFNet", norm_cfg=BN, multiple=8),
    pair("ICNet", (0, 1, 2), type="ICNet", norm_cfg=BN, **icnet(64), small=icnet(4)),
    pair(
        "BiSeNetV1",
        (0, 1, 2),
        type="BiSeNetV1",
        backbone_cfg=dict(type="ResNet", depth=18),
        small=dict(
            backbone_cfg=dict(base_channels=8),
            context_channels=(16, 32, 64),
            spatial_channels=(8, 8, 8, 16),
            out_channels=16,
        ),
    ),
    pair("BiSeNetV2", (1, 2, 0, 3, 4), type="BiSeNetV2", multiple=32),
    pair("FastSCNN", (0, 2, 1), type="FastSCNN"),
    pair("DDRNet-23-slim", (1,), type="DDRNet", multiple=8, small=dict(channels=4, ppm_channels=8)),
    pair("PIDNet-S", (1,), type="PIDNet", multiple=8, small=dict(channels=4, ppm_channels=8)),
    pair(
        "ConvNeXt-T",
        (0, 1, 2),
        type="mmpretrain.ConvNeXt",
        arch="tiny",
        out_indices=LAST_THREE,
        drop_path_rate=0.4,
        gap_before_final_norm=False,
        needs="mmpretrain",
    ),
    pair(
        "PoolFormer-S12",
        (0, 1, 2),
        type="mmpretrain.PoolFormer",
        arch="s12",
        out_indices=(2, 4, 6),
        needs="mmpretrain",
    ),
    pair(
        "timm's EfficientNet-B0",
        (0, 1, 2),
        type="TIMMBackbone",
        model_name="efficientnet_b0",
        pretrained=False,
        out_indices=(2, 3, 4),
        needs="timm",
    ),
    pair(
        "timm's RegNetY-400MF",
        (0, 1, 2),
        type="TIMMBackbone",
        model_name="regnety_004",
        pretrained=False,
        out_indices=(2, 3, 4),
        needs="timm",
    ),
]
