"""Backbones of mmseg, and through it of mmpretrain and timm, under ``SkipFusionHead``.

The smallest of each family, with the settings of mmseg's own base configs where these have it.
Levels are those at strides 8, 16 and 32 of FCN-8s where a backbone has them, else what it has,
finest first; what a backbone need not return it does not.
"""

from pathlib import Path
from typing import Any

import mmseg
from mmengine.config import Config

from pairing.pair import CLASSES, Pair

BASES = Path(mmseg.__file__).parent / ".mim" / "configs" / "_base_" / "models"
BN = dict(type="BN")
FOUR = [1, 1, 1, 1]
LAST_THREE = dict(out_indices=(1, 2, 3))
STRIDES = (0, 1, 2)  # three levels at strides 8, 16 and 32


def single_process(node: Any) -> Any:
    """A part of a config without SyncBN, which needs several processes, and without weights."""
    if isinstance(node, dict):
        if node.get("type") == "SyncBN":
            return dict(BN)
        return {key: single_process(value) for key, value in node.items() if key != "init_cfg"}
    return node


def backbone(
    name: str,
    in_index: tuple[int, ...],
    base: str = "",
    small: dict | None = None,
    neck: dict | None = None,
    small_neck: dict | None = None,
    multiple: int = 1,
    fixed: bool = False,
    needs: str = "",
    **settings: Any,
) -> Pair:
    """A backbone: the settings of one of mmseg's base models, and what is other than there.

    Args:
        in_index: the levels that the head takes.
        small: settings of a small one, for tests.
    """
    parts = Config.fromfile(BASES / f"{base}.py").model.to_dict()["backbone"] if base else {}
    model = dict(
        backbone=single_process(parts) | settings,
        decode_head=dict(type="SkipFusionHead", in_index=in_index, num_classes=CLASSES),
    )
    smaller = dict(backbone=small or {})
    if neck:
        model["neck"], smaller["neck"] = neck, small_neck or {}
    return Pair(name, model, smaller, multiple, fixed, needs)


NARROW = dict(base_channels=8, stem_channels=8)
STDC1 = dict(
    channels=(32, 64, 256, 512, 1024), num_convs=4, bottleneck_type="cat", act_cfg=dict(type="ReLU")
)
NARROW_STDC = dict(channels=(4, 8, 16, 32, 64))
SMALL_STDC_PATH = dict(
    backbone_cfg=NARROW_STDC,
    last_in_channels=(64, 32),
    out_channels=8,
    ffm_cfg=dict(in_channels=24, out_channels=16),
)
SMALL_HRNET = dict(
    stage1=dict(num_blocks=(1,), num_channels=(4,)),
    stage2=dict(num_blocks=(1, 1), num_channels=(4, 8)),
    stage3=dict(num_modules=1, num_blocks=(1, 1, 1), num_channels=(4, 8, 12)),
    stage4=dict(num_modules=1, num_blocks=(1, 1, 1, 1), num_channels=(4, 8, 12, 16)),
)
SMALL_ICNET = dict(
    backbone_cfg=dict(base_channels=4, stem_channels=4),
    layer_channels=(32, 128),
    psp_out_channels=32,
)
SMALL_BISENET = dict(
    backbone_cfg=dict(base_channels=8),
    context_channels=(16, 32, 64),
    spatial_channels=(8, 8, 8, 16),
    out_channels=16,
)
SVT = dict(num_heads=[2, 4, 8, 16], mlp_ratios=[4] * 4, depths=[2, 2, 10, 4], norm_after_stage=True)
SMALL_TWINS = dict(embed_dims=[4, 8, 12, 16], num_heads=FOUR)
TOKENS = dict(img_size=(512, 512), patch_size=16, drop_path_rate=0.1)
FEW_TOKENS = dict(
    img_size=(64, 64), embed_dims=16, num_layers=4, num_heads=2, out_indices=(0, 1, 2, 3)
)
PYRAMID = dict(
    neck=dict(type="Feature2Pyramid", embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=BN),
    small_neck=dict(embed_dim=16),
    small=FEW_TOKENS,
    fixed=True,
)
TIMM = dict(type="TIMMBackbone", pretrained=False, out_indices=(2, 3, 4), needs="timm")

BACKBONES = [
    backbone("ResNet-18", STRIDES, type="ResNet", depth=18, **LAST_THREE, small=NARROW),
    backbone("ResNet-50 v1c", STRIDES, "fpn_r50", **LAST_THREE, small=dict(depth=18) | NARROW),
    backbone(
        "ResNet-50 v1c, dilated", STRIDES, "fcn_r50-d8", **LAST_THREE, small=dict(depth=18) | NARROW
    ),
    backbone(
        "ResNet-50 v1d",
        STRIDES,
        type="ResNetV1d",
        depth=50,
        **LAST_THREE,
        small=dict(depth=18) | NARROW,
    ),
    backbone(
        "ResNeXt-50 32x4d",
        STRIDES,
        type="ResNeXt",
        depth=50,
        groups=32,
        base_width=4,
        **LAST_THREE,
        small=dict(groups=2) | NARROW,
    ),
    backbone(
        "ResNeSt-50",
        STRIDES,
        type="ResNeSt",
        depth=50,
        stem_channels=64,
        radix=2,
        reduction_factor=4,
        avg_down_stride=True,
        **LAST_THREE,
        small=NARROW,
    ),
    backbone("HRNet-W18", (0, 1, 2, 3), "fcn_hr18", small=dict(extra=SMALL_HRNET)),
    backbone(
        "MobileNetV2",
        STRIDES,
        type="MobileNetV2",
        out_indices=(2, 4, 6),
        small=dict(widen_factor=0.1),
    ),
    backbone("MobileNetV3, large", STRIDES, "lraspp_m-v3-d8", norm_cfg=BN),
    backbone(
        "MobileNetV3, small",
        STRIDES,
        "lraspp_m-v3-d8",
        arch="small",
        out_indices=(0, 1, 12),
        norm_cfg=BN,
    ),
    backbone(
        "Swin-T",
        STRIDES,
        "upernet_swin",
        **LAST_THREE,
        small=dict(embed_dims=8, depths=FOUR, num_heads=FOUR),
    ),
    backbone(
        "MiT-b0",
        STRIDES,
        "segformer_mit-b0",
        **LAST_THREE,
        small=dict(embed_dims=8, num_layers=FOUR, num_heads=FOUR),
    ),
    backbone(
        "MSCAN-T",
        (1, 2, 3),
        type="MSCAN",
        embed_dims=[32, 64, 160, 256],
        depths=[3, 3, 5, 2],
        drop_path_rate=0.1,
        norm_cfg=BN,
        small=dict(embed_dims=[4, 8, 12, 16], depths=FOUR),
    ),
    backbone(
        "Twins PCPVT-S",
        STRIDES,
        "twins_pcpvt-s_fpn",
        **LAST_THREE,
        small=dict(SMALL_TWINS, depths=FOUR),
    ),
    backbone(
        "Twins SVT-S",
        STRIDES,
        "twins_pcpvt-s_fpn",
        type="SVT",
        embed_dims=[64, 128, 256, 512],
        windiow_sizes=[7, 7, 7, 7],
        **SVT,
        **LAST_THREE,
        small=dict(SMALL_TWINS, depths=[2, 2, 2, 2]),
    ),
    backbone(
        "ViT-B/16, MultiLevelNeck",
        STRIDES,
        type="VisionTransformer",
        out_indices=(3, 7, 11),
        **TOKENS,
        neck=dict(type="MultiLevelNeck", out_channels=768, scales=[2, 1, 0.5]),
        small=dict(FEW_TOKENS, out_indices=(0, 1, 3)),
        small_neck=dict(out_channels=16),
    ),
    backbone(
        "BEiT-B, Feature2Pyramid", (0, 1, 2, 3), "upernet_beit", img_size=(512, 512), **PYRAMID
    ),
    backbone(
        "MAE-B, Feature2Pyramid",
        (0, 1, 2, 3),
        "upernet_mae",
        img_size=(512, 512),
        init_values=1.0,
        **PYRAMID,
    ),
    backbone(
        "STDC1",
        STRIDES,
        type="STDCNet",
        stdc_type="STDCNet1",
        in_channels=3,
        norm_cfg=BN,
        **STDC1,
        small=NARROW_STDC,
    ),
    backbone("STDC1, context path", (3, 2, 1), "stdc", small=SMALL_STDC_PATH),
    backbone("UNet", (4, 3, 2, 1, 0), "fcn_unet_s5-d16", multiple=16, small=dict(base_channels=4)),
    backbone("CGNet", STRIDES, "cgnet", small=dict(num_blocks=(1, 2))),
    backbone("ERFNet", (0,), "erfnet_fcn", multiple=8),
    backbone("ICNet", STRIDES, "icnet_r50-d8", small=SMALL_ICNET),
    backbone("BiSeNetV1", STRIDES, "bisenetv1_r18-d32", small=SMALL_BISENET),
    backbone("BiSeNetV2", (1, 2, 0, 3, 4), "bisenetv2", multiple=32),
    backbone("FastSCNN", (0, 2, 1), "fast_scnn"),
    backbone(
        "DDRNet-23-slim", (1,), type="DDRNet", multiple=8, small=dict(channels=4, ppm_channels=8)
    ),
    backbone("PIDNet-S", (1,), type="PIDNet", multiple=8, small=dict(channels=4, ppm_channels=8)),
    backbone(
        "ConvNeXt-T",
        STRIDES,
        type="mmpretrain.ConvNeXt",
        arch="tiny",
        **LAST_THREE,
        drop_path_rate=0.4,
        gap_before_final_norm=False,
        needs="mmpretrain",
    ),
    backbone(
        "PoolFormer-S12",
        STRIDES,
        type="mmpretrain.PoolFormer",
        arch="s12",
        out_indices=(2, 4, 6),
        needs="mmpretrain",
    ),
    backbone("timm's EfficientNet-B0", STRIDES, model_name="efficientnet_b0", **TIMM),
    backbone("timm's RegNetY-400MF", STRIDES, model_name="regnety_004", **TIMM),
]
