"""The published training on summed losses: one image at a time, high ("heavy") momentum, 100,000
iterations at a fixed rate, a snapshot scored every 4,000 (Caffe voc-fcn32s/solver.prototxt).

On a 500 x 375 image the rate of 1e-10 is 1.9e-5 in terms of a mean loss, 1.9e-3 with momentum.
For one process: with several, each takes its own image, and their losses are averaged.
"""

train_cfg = dict(type="ExactTrainLoop", max_iters=100_000, val_interval=4_000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=1e-10, momentum=0.99, weight_decay=5e-4),
    # Biases learn twice as fast and do not decay. The upsampling is fixed and has no parameters.
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
)
param_scheduler = None
default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=100, log_metric_by_epoch=False),
    checkpoint=dict(
        type="SnapshotHook", by_epoch=False, interval=4_000, max_keep_ckpts=3, save_best="mIoU"
    ),
    score_resumed=dict(type="ScoreResumedHook"),
    bad_numbers=dict(type="BadNumbersHook"),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="SegVisualizationHook"),
)
randomness = dict(seed=1337)
