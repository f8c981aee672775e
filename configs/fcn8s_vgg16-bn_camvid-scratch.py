"""FCN-8s on CamVid without ImageNet weights: VGG16 at half its width, with BatchNorm.

    fcn-plugin train fcn8s_vgg16-bn_camvid-scratch

At full resolution, for a GPU; not yet run there. On two CPU cores take
fcn8s_vgg16-bn_camvid-scratch-half.py.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/camvid.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(360, 480)),
    # 367 frames are too few for the 134 million parameters of full width.
    backbone=dict(
        base_channels=32,
        fc_channels=512,
        dropout_ratio=0.2,
        norm_cfg=dict(type="BN"),
        init_cfg=dict(_delete_=True),  # a config based on this one may name weights
    ),
    decode_head=dict(in_channels=(128, 256, 512), num_classes=11),
)
