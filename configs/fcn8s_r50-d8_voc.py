"""Skip fusion on a dilated ResNet-50, all of whose levels lie at stride 8, on VOC 2012 + SBD.

    fcn-plugin train fcn8s_r50-d8_voc

To compare with fcn8s_r50_voc.py, which takes less than half the operations. Not run here yet.
"""

_base_ = "fcn8s_r50_voc.py"
model = dict(
    backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True),
)
