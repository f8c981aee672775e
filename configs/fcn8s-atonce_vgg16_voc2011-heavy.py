"""FCN-8s at once on SBD and VOC 2011, as published: one stage from VGG16, 300,000 iterations.

    fcn-plugin train fcn8s-atonce_vgg16_voc2011-heavy

Published: 65.40 mean IU on seg11valid, 91.13 pixel acc., 78.50 mean acc., 84.43 f.w. IU; not yet
run here.
"""

_base_ = "fcn32s_vgg16_voc2011-heavy.py"
model = dict(
    backbone=dict(out_indices=(2, 3, 5)),
    decode_head=dict(
        in_channels=(256, 512, 4096),
        in_index=(0, 1, 2),
        # Of pool3, pool4 and fc7: unscaled, the skips' larger activations would learn too fast.
        scale=(0.0001, 0.01, 1.0),
    ),
)
train_cfg = dict(max_iters=300_000)
