"""FCN-16s on VOC 2012 + SBD: as fcn8s_vgg16_voc.py without the skip from pool3.

Others report 67.3 mean IU on VOC 2012 val for this network trained this way; not yet run here.
"""

_base_ = "fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(out_indices=(3, 5)),
    decode_head=dict(in_channels=(512, 4096), in_index=(0, 1)),
)
