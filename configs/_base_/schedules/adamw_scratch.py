"""AdamW with cosine decay, for networks that start without ImageNet weights; batch 8."""

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
