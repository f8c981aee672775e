"""FCN-32s on VOC 2012 + SBD: as fcn8s_vgg16_voc.py without any skip.

Others report 64.5 mean IU on VOC 2012 val for this network trained this way; not yet run here.
"""

_base_ = "fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(4096,), in_index=(0,)),
)
