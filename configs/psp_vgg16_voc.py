"""mmseg's PSP head, with its auxiliary head, on the convolutionalized VGG16.

    fcn-plugin train psp_vgg16_voc

It takes pool5 (stride 32); its pyramid replaces fc6 and fc7.
"""

_base_ = "fcn8s_vgg16_voc.py"
norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    backbone=dict(out_indices=(3, 4)),
    decode_head=dict(
        _delete_=True,
        type="PSPHead",
        in_channels=512,
        in_index=1,
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=512,
        in_index=0,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=0.4),
    ),
)
