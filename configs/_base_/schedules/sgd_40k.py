"""SGD with polynomial decay for 40,000 iterations; batch 16.

The learning rate is converted from the paper's 1e-10 with summed losses and momentum 0.99: on a
500 x 375 image that is 1.9e-3 a step including momentum, or 1.9e-4 at momentum 0.9; times 16 for
the batch, less a third for safety at the larger crops.
"""

train_cfg = dict(type="ExactTrainLoop", max_iters=40_000, val_interval=4_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=2e-3, momentum=0.9, weight_decay=5e-4),
    # Biases learn twice as fast and do not decay, as in the reference.
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=500, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0.0, begin=500, end=40_000, by_epoch=False),
]
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="SnapshotHook", by_epoch=False, interval=4_000, max_keep_ckpts=3, save_best="mIoU"
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    score_resumed=dict(type="ScoreResumedHook"),
    bad_numbers=dict(type="BadNumbersHook"),
    visualization=dict(type="SegVisualizationHook"),
)
