"""mmseg's ASPP head of DeepLabV3, with its auxiliary head, on the convolutionalized VGG16.

    fcn-plugin train deeplabv3_vgg16_voc

Dilation rates are a quarter of those for stride 8, as the level is at stride 32. Not run here yet.
"""

_base_ = "psp_vgg16_voc.py"
model = dict(
    decode_head=dict(
        _delete_=True,
        type="ASPPHead",
        in_channels=512,
        in_index=1,
        channels=512,
        dilations=(1, 3, 6, 9),
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
