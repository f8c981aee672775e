"""Backbones of mmseg, and through it of mmpretrain and timm, under ``SkipFusionHead``.

The smallest of each family, with settings from mmseg's configs if these have it. Levels are at the
strides of FCN-8s, 8, 16 and 32, if a backbone has them, else all it has, finest first. A backbone
with ``out_indices`` returns only these levels.
"""

from typing import Any

from pairing.pair import CLASSES, Pair, mmseg_model

BN = dict(type="BN")
FOUR = [1, 1, 1, 1]
LAST_THREE = dict(out_indices=(1, 2, 3))
STRIDES = (0, 1, 2)  # three levels at strides 8, 16 and 32


def backbone(
    name: str,
    base: str = "",
    in_index: tuple[int, ...] = STRIDES,
    small: dict | None = None,
    neck: dict | None = None,
    small_neck: dict | None = None,
    multiple: int = 1,
    fixed: bool = False,
    needs: str = "",
    **settings: Any,
) -> Pair:
    """A pair of our head and the backbone of mmseg's config ``base``, changed by ``settings``."""
    model = dict(
        backbone=(mmseg_model(base)["backbone"] if base else {}) | settings,
        decode_head=dict(type="SkipFusionHead", in_index=in_index, num_classes=CLASSES),
    )
    smaller = dict(backbone=small or {})
    if neck:
        model["neck"], smaller["neck"] = neck, small_neck or {}
    return Pair(name, model, smaller, multiple, fixed, needs)


NARROW = dict(base_channels=8, stem_channels=8)
SHALLOW = NARROW | dict(depth=18)
STDC1 = mmseg_model("stdc")["backbone"]["backbone_cfg"]
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
THIN = dict(base_channels=4, stem_channels=4)
SMALL_ICNET = dict(backbone_cfg=THIN, layer_channels=(32, 128), psp_out_channels=32)
BISENET = dict(context_channels=(16, 32, 64), spatial_channels=(8, 8, 8, 16), out_channels=16)
SMALL_BISENET = BISENET | dict(backbone_cfg=dict(base_channels=8))
SMALL_BRANCHES = dict(channels=4, ppm_channels=8)
WIDTHS = dict(embed_dims=[4, 8, 12, 16])
SMALL_TRANSFORMER = dict(embed_dims=8, num_heads=FOUR)
MSCAN = dict(embed_dims=[32, 64, 160, 256], depths=[3, 3, 5, 2], drop_path_rate=0.1, norm_cfg=BN)
SVT = dict(num_heads=[2, 4, 8, 16], mlp_ratios=[4] * 4, depths=[2, 2, 10, 4], norm_after_stage=True)
TOKENS = dict(img_size=(64, 64), embed_dims=16, num_layers=4, num_heads=2)
PYRAMID = dict(
    img_size=(512, 512),
    fixed=True,
    in_index=(0, 1, 2, 3),
    neck=dict(type="Feature2Pyramid", embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=BN),
    small=dict(TOKENS, out_indices=(0, 1, 2, 3)),
    small_neck=dict(embed_dim=16),
)
TIMM = dict(type="TIMMBackbone", pretrained=False, out_indices=(2, 3, 4), needs="timm")
RESNEST = dict(depth=50, stem_channels=64, radix=2, reduction_factor=4, avg_down_stride=True)

BACKBONES = [
    backbone("ResNet-18", type="ResNet", depth=18, **LAST_THREE, small=NARROW),
    backbone("ResNet-50 v1c", "fpn_r50", **LAST_THREE, small=SHALLOW),
    backbone("ResNet-50 v1c, dilated", "fcn_r50-d8", **LAST_THREE, small=SHALLOW),
    backbone("ResNet-50 v1d", type="ResNetV1d", depth=50, **LAST_THREE, small=SHALLOW),
    backbone(
        "ResNeXt-50 32x4d",
        **dict(type="ResNeXt", depth=50, groups=32, base_width=4, **LAST_THREE),
        small=dict(groups=2, **NARROW),
    ),
    backbone("ResNeSt-50", type="ResNeSt", **RESNEST, **LAST_THREE, small=NARROW),
    backbone("HRNet-W18", "fcn_hr18", (0, 1, 2, 3), small=dict(extra=SMALL_HRNET)),
    backbone(
        "MobileNetV2", type="MobileNetV2", out_indices=(2, 4, 6), small=dict(widen_factor=0.1)
    ),
    backbone("MobileNetV3, large", "lraspp_m-v3-d8", norm_cfg=BN),
    backbone(
        "MobileNetV3, small", "lraspp_m-v3-d8", arch="small", out_indices=(0, 1, 12), norm_cfg=BN
    ),
    backbone("Swin-T", "upernet_swin", **LAST_THREE, small=dict(SMALL_TRANSFORMER, depths=FOUR)),
    backbone(
        "MiT-b0", "segformer_mit-b0", **LAST_THREE, small=dict(SMALL_TRANSFORMER, num_layers=FOUR)
    ),
    backbone("MSCAN-T", "", (1, 2, 3), dict(WIDTHS, depths=FOUR), type="MSCAN", **MSCAN),
    backbone(
        "Twins PCPVT-S",
        "twins_pcpvt-s_fpn",
        **LAST_THREE,
        small=dict(WIDTHS, num_heads=FOUR, depths=FOUR),
    ),
    backbone(
        "Twins SVT-S",
        "twins_pcpvt-s_fpn",
        **dict(type="SVT", embed_dims=[64, 128, 256, 512], windiow_sizes=[7] * 4, **SVT),
        **LAST_THREE,
        small=dict(WIDTHS, num_heads=FOUR, depths=[2, 2, 2, 2]),
    ),
    backbone(
        "ViT-B/16, MultiLevelNeck",
        "upernet_vit-b16_ln_mln",
        out_indices=(3, 7, 11),
        drop_path_rate=0.1,
        neck=dict(type="MultiLevelNeck", out_channels=768, scales=[2, 1, 0.5]),
        small=dict(TOKENS, out_indices=(0, 1, 3)),
        small_neck=dict(out_channels=16),
    ),
    backbone("BEiT-B, Feature2Pyramid", "upernet_beit", **PYRAMID),
    backbone("MAE-B, Feature2Pyramid", "upernet_mae", init_values=1.0, **PYRAMID),
    backbone("STDC1", **STDC1, small=NARROW_STDC),
    backbone("STDC1, context path", "stdc", (3, 2, 1), small=SMALL_STDC_PATH),
    backbone("UNet", "fcn_unet_s5-d16", (4, 3, 2, 1, 0), dict(base_channels=4), multiple=16),
    backbone("CGNet", "cgnet", small=dict(num_blocks=(1, 2))),
    backbone("ERFNet", "erfnet_fcn", (0,), multiple=8),
    backbone("ICNet", "icnet_r50-d8", small=SMALL_ICNET),
    backbone("BiSeNetV1", "bisenetv1_r18-d32", small=SMALL_BISENET),
    backbone("BiSeNetV2", "bisenetv2", (1, 2, 0, 3, 4), multiple=32),
    backbone("FastSCNN", "fast_scnn", (0, 2, 1)),
    backbone("DDRNet-23-slim", "", (1,), SMALL_BRANCHES, type="DDRNet", multiple=8),
    backbone("PIDNet-S", "", (1,), SMALL_BRANCHES, type="PIDNet", multiple=8),
    backbone(
        "ConvNeXt-T",
        **dict(type="mmpretrain.ConvNeXt", arch="tiny", drop_path_rate=0.4, **LAST_THREE),
        gap_before_final_norm=False,
        needs="mmpretrain",
    ),
    backbone(
        "PoolFormer-S12",
        **dict(type="mmpretrain.PoolFormer", arch="s12", out_indices=(2, 4, 6)),
        needs="mmpretrain",
    ),
    backbone("timm's EfficientNet-B0", model_name="efficientnet_b0", **TIMM),
    backbone("timm's RegNetY-400MF", model_name="regnety_004", **TIMM),
]
