"""Skip fusion on Twins PCPVT-S, a pyramid transformer, on ADE20K.

    fcn-plugin train fcn8s_pcpvt-s_ade20k

The weights are those of mmseg's Twins + UPer. Not run here yet.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/ade20k.py",
    "_base_/schedules/adamw_160k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type="PCPVT",
        embed_dims=[64, 128, 320, 512],
        num_heads=[1, 2, 5, 8],
        mlp_ratios=[8, 8, 4, 4],
        depths=[3, 4, 6, 3],
        sr_ratios=[8, 4, 2, 1],
        qkv_bias=True,
        out_indices=(1, 2, 3),
        norm_cfg=dict(type="LN"),
        drop_path_rate=0.2,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/twins/"
            "pcpvt_small_20220308-e638c41c.pth",
        ),
    ),
    decode_head=dict(in_channels=(128, 320, 512), num_classes=150),
)
