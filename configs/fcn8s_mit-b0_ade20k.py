"""Skip fusion on MiT-b0, SegFormer's encoder: 3.3 million parameters, on ADE20K.

    fcn-plugin train fcn8s_mit-b0_ade20k

The weights are those of mmseg's SegFormer-b0. Not run here yet.
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
        type="MixVisionTransformer",
        embed_dims=32,
        num_layers=[2, 2, 2, 2],
        num_heads=[1, 2, 5, 8],
        out_indices=(1, 2, 3),
        drop_path_rate=0.1,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segformer/"
            "mit_b0_20220624-7e0fe6dd.pth",
        ),
    ),
    decode_head=dict(in_channels=(64, 160, 256), num_classes=150),
)
# The new head learns at ten times the rate, as in mmseg.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))))
