"""FCN-8s on CamVid without ImageNet weights: VGG16 at half its width, with BatchNorm.

    python tools/train.py configs/fcn8s_vgg16-bn_camvid-scratch.py

At full resolution, for a GPU; not yet run there. fcn8s_vgg16-bn_camvid-scratch-half.py is what
two CPU cores manage.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/camvid.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(360, 480)),
    # 367 frames do not fill 134 million parameters.
    backbone=dict(
        base_channels=32,
        fc_channels=512,
        dropout_ratio=0.2,
        norm_cfg=dict(type="BN"),
        init_cfg=dict(_delete_=True),  # a config based on this one may name weights
    ),
    decode_head=dict(in_channels=(128, 256, 512), num_classes=11),
)
max_iters = 20_000
train_cfg = dict(type="ExactTrainLoop", max_iters=max_iters, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=200, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=200, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type="SnapshotHook", by_epoch=False, interval=1000, max_keep_ckpts=2, save_best="mIoU"
    ),
    score_resumed=dict(type="ScoreResumedHook"),
    bad_numbers=dict(type="BadNumbersHook"),
    visualization=dict(type="SegVisualizationHook"),
)
randomness = dict(seed=0)
