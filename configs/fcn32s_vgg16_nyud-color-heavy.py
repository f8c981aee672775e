"""FCN-32s on NYUDv2's color, as published.

    fcn-plugin prepare_data nyud
    fcn-plugin train fcn32s_vgg16_nyud-color-heavy

Published: 29.2 mean IU on test, 60.0 pixel acc., 42.2 mean acc., 43.9 f.w. IU (CVPR, table 4);
not yet run here.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/nyud.py",
    "_base_/schedules/heavy_100k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(mean=[116.190, 97.203, 92.318]),
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(4096,), in_index=(0,), num_classes=40),
)
# 50 times 2,000 iterations (Caffe nyud-fcn32s-color/solve.py).
train_cfg = dict(val_interval=2_000)
default_hooks = dict(checkpoint=dict(interval=2_000))
