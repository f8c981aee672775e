"""FCN-32s on SBD and VOC 2011: as fcn8s_vgg16_voc2011.py without any skip.

    fcn-plugin train fcn32s_vgg16_voc2011

To compare with fcn32s_vgg16_voc2011-heavy.py, published with 63.63 mean IU on seg11valid. Others
report 64.5 for this recipe on VOC 2012 with 10,582 images; not yet run here.
"""

_base_ = "fcn8s_vgg16_voc2011.py"
model = dict(
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(4096,), in_index=(0,)),
)
