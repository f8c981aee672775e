"""FCN-8s on a VGG16 a quarter as wide, with BatchNorm, without ImageNet weights."""

_base_ = "fcn8s_vgg16.py"
model = dict(
    backbone=dict(
        base_channels=16,
        fc_channels=256,
        dropout_ratio=0.1,
        norm_cfg=dict(type="BN"),
        init_cfg=dict(_delete_=True),  # a config based on this one may name weights
    ),
    decode_head=dict(in_channels=(64, 128, 256)),
)
