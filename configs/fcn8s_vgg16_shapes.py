"""FCN-8s on drawn shapes, from scratch, in minutes on a CPU: the demo.

fcn-plugin prepare_data shapes
fcn-plugin train fcn8s_vgg16_shapes
"""

_base_ = [
    "_base_/models/fcn8s_vgg16-bn_narrow.py",
    "_base_/datasets/shapes.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(64, 64)), decode_head=dict(num_classes=5))
max_iters = 800
train_cfg = dict(max_iters=max_iters, val_interval=200)
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.04, begin=0, end=200, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=200, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=200))
