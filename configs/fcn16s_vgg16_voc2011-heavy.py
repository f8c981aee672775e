"""FCN-16s on SBD and VOC 2011, as published: the second of three stages.

    fcn-plugin train_stages                      # 32s, then 16s, then 8s

Published: 65.01 mean IU on seg11valid, 91.00 pixel acc., 78.07 mean acc., 84.26 f.w. IU, with the
snapshot of iteration 72,000; not yet run here.

Starts from the best FCN-32s; without it, the learning rate is too low.
"""

_base_ = "fcn32s_vgg16_voc2011-heavy.py"
model = dict(
    backbone=dict(out_indices=(3, 5), init_cfg=None),  # weights come from the stage before
    decode_head=dict(in_channels=(512, 4096), in_index=(0, 1)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-12))
