"""FCN-8s on drawn shapes, from scratch, in minutes on a CPU: the demo.

python tools/prepare_data.py shapes
python tools/train.py configs/fcn8s_vgg16_shapes.py
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/shapes.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    # A quarter of VGG16's width; BatchNorm, since it trains from scratch.
    backbone=dict(
        base_channels=16,
        fc_channels=256,
        dropout_ratio=0.1,
        norm_cfg=dict(type="BN"),
        init_cfg=dict(_delete_=True),  # a config based on this one may name weights
    ),
    decode_head=dict(in_channels=(64, 128, 256), num_classes=5),
)
max_iters = 800
train_cfg = dict(type="ExactTrainLoop", max_iters=max_iters, val_interval=200)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=4e-3, weight_decay=1e-2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, begin=0, end=200, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=200, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type="SnapshotHook", by_epoch=False, interval=200, max_keep_ckpts=2, save_best="mIoU"
    ),
    score_resumed=dict(type="ScoreResumedHook"),
    bad_numbers=dict(type="BadNumbersHook"),
    visualization=dict(type="SegVisualizationHook"),
)
randomness = dict(seed=0)
