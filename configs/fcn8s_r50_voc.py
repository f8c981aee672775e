"""Skip fusion on a ResNet-50 without dilation: strides 8, 16 and 32.

fcn-plugin train fcn8s_r50_voc
"""

_base_ = "fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNetV1c",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnet50_v1c"),
    ),
    decode_head=dict(in_channels=(512, 1024, 2048), in_index=(1, 2, 3)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
