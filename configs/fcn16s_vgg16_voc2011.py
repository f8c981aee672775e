"""FCN-16s on SBD and VOC 2011: as fcn8s_vgg16_voc2011.py without the skip from pool3.

    fcn-plugin train fcn16s_vgg16_voc2011

To compare with fcn16s_vgg16_voc2011-heavy.py, published with 65.01 mean IU on seg11valid. Others
report 67.3 for this recipe on VOC 2012 with 10,582 images; not yet run here.
"""

_base_ = "fcn8s_vgg16_voc2011.py"
model = dict(
    backbone=dict(out_indices=(3, 5)),
    decode_head=dict(in_channels=(512, 4096), in_index=(0, 1)),
)
