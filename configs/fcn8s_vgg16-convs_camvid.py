"""FCN-8s on CamVid from VGG16's ImageNet convolutions; fc6 and fc7 are new, of 512 channels.

    fcn-plugin train fcn8s_vgg16-convs_camvid --amp
    fcn-plugin test fcn8s_vgg16-convs_camvid work_dirs/fcn8s_vgg16-convs_camvid --split test

Measured on CamVid test: 62.63 mean IU, 89.76 pixel acc. (docs/camvid.md).

The frames are cropped at full resolution, and scored whole. Of a VGG16 with fc6 and fc7, such as
caffe://vgg16, they are dropped; a file of the convolutions alone does as well:
--cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/camvid.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]
# Larger crops in smaller batches: fc6 sees 7 x 7 cells of 32 pixels.
crop_size = (288, 384)
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type="SegDataPreProcessor",
        # Caffe's: BGR, 0-255, the mean subtracted.
        mean=[103.939, 116.779, 123.68],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        size=crop_size,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(padding="same", fc_channels=512),
    decode_head=dict(
        in_channels=(256, 512, 512),
        num_classes=11,
        loss_decode=dict(
            _delete_=True,
            type="CrossEntropyLoss",
            avg_non_ignore=True,
            # The fourth root of the median frequency weights.
            class_weight=[0.73, 0.67, 1.48, 0.62, 1.0, 0.81, 1.4, 1.19, 0.94, 1.59, 1.73],
        ),
    ),
)
train_pipeline = _base_.train_pipeline
train_pipeline[3] = dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75)
train_dataloader = dict(batch_size=2, num_workers=1, dataset=dict(pipeline=train_pipeline))
max_iters = 3600
train_cfg = dict(max_iters=max_iters, val_interval=900)
optim_wrapper = dict(
    optimizer=dict(lr=5e-5),
    paramwise_cfg=dict(
        custom_keys=dict(
            decode_head=dict(lr_mult=20.0), fc6=dict(lr_mult=4.0), fc7=dict(lr_mult=4.0)
        )
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=100))
