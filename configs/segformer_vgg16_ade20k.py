"""mmseg's SegFormer head, all of 1 x 1 convolutions, on the convolutionalized VGG16.

    fcn-plugin train segformer_vgg16_ade20k

It takes pool2 to pool5; compare with MiT to see the effect of the backbone. Not run here yet.
"""

_base_ = "fcn8s_vgg16_ade20k.py"
model = dict(
    backbone=dict(out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        _delete_=True,
        type="SegformerHead",
        in_channels=[128, 256, 512, 512],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
