"""FCN-8s on SIFT Flow, semantic and geometric classes at once, as published: the last of three
stages, 100,000 iterations each.

    fcn-plugin train_stages fcn{32s,16s,8s}_vgg16_siftflow-heavy

Released without scores (Caffe README); not yet run here.

Starts from the best FCN-16s; without it, the learning rate is too low.
"""

_base_ = "fcn32s_vgg16_siftflow-heavy.py"
model = dict(
    backbone=dict(out_indices=(2, 3, 5), init_cfg=None),  # weights come from the stage before
    decode_head=dict(in_channels=(256, 512, 4096), in_index=(0, 1, 2)),
    task_heads=dict(geo=dict(in_channels=(256, 512, 4096), in_index=(0, 1, 2))),
)
optim_wrapper = dict(optimizer=dict(lr=1e-12))
