"""The schedule of sgd_40k.py over 80,000 iterations."""

_base_ = "sgd_40k.py"
train_cfg = dict(max_iters=80_000, val_interval=8_000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end=500, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0.0, begin=500, end=80_000, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=8_000))
