"""mmseg's OCR behind its FCN head, in a cascade, on the convolutionalized VGG16.

    fcn-plugin train ocr_vgg16_voc

It takes pool4 at stride 16, since OCR compares pixels with regions. Not run here yet.
"""

_base_ = "fcn8s_vgg16_voc.py"
norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="CascadeEncoderDecoder",
    num_stages=2,
    backbone=dict(out_indices=(3,)),
    decode_head=[
        dict(
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
        dict(
            type="OCRHead",
            in_channels=512,
            in_index=0,
            channels=512,
            ocr_channels=256,
            dropout_ratio=0.1,
            num_classes=21,
            norm_cfg=norm_cfg,
            align_corners=False,
            loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
        ),
    ],
)
