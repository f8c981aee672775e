"""Skip fusion on MobileNetV2, 1.8 million parameters, for small devices, on VOC 2012.

    fcn-plugin train fcn8s_mobilenet-v2_voc

Not run here yet.
"""

_base_ = "fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="MobileNetV2",
        out_indices=(2, 4, 6),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        init_cfg=dict(type="Pretrained", checkpoint="mmcls://mobilenet_v2"),
    ),
    decode_head=dict(in_channels=(32, 96, 320)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
