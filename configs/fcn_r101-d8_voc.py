"""mmseg's FCN on a dilated ResNet-101, layer by layer torchvision's, on VOC 2012 + SBD.

    fcn-plugin convert_weights fcn_resnet101_coco-7ecb50ca.pth fcn_r101.pth
    fcn-plugin test fcn_r101-d8_voc fcn_r101.pth

Not run here yet.
"""

_base_ = "fcn_r50-d8_voc.py"
model = dict(
    backbone=dict(
        depth=101,
        init_cfg=dict(
            checkpoint="https://download.pytorch.org/models/resnet101-63fe2227.pth",
        ),
    ),
)
