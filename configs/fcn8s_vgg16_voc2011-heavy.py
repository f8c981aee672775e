"""FCN-8s on SBD and VOC 2011, as published: the last of three stages.

    fcn-plugin train_stages                      # 32s, then 16s, then 8s

Published: 65.51 mean IU on seg11valid, 91.22 pixel acc., 77.61 mean acc., 84.54 f.w. IU; not yet
run here.

Starts from the best FCN-16s; without it, the learning rate is too low.
"""

_base_ = "fcn32s_vgg16_voc2011-heavy.py"
model = dict(
    backbone=dict(out_indices=(2, 3, 5), init_cfg=None),  # weights come from the stage before
    decode_head=dict(in_channels=(256, 512, 4096), in_index=(0, 1, 2)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-14))
