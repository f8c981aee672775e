"""mmseg's FCN on a dilated ResNet-50, layer by layer torchvision's, on VOC 2012 + SBD.

    fcn-plugin convert_weights fcn_resnet50_coco-1167a1af.pth fcn_r50.pth
    fcn-plugin test fcn_r50-d8_voc fcn_r50.pth

torchvision's file, trained on COCO's images of VOC's classes, gives the same scores here. mmseg's
own fcn_r50-d8 has another first layer (ResNetV1c) and a larger head. Not run here yet.
"""

_base_ = "fcn8s_vgg16_voc.py"
norm_cfg = dict(type="SyncBN", requires_grad=True)
head = dict(
    type="FCNHead",
    num_convs=1,
    concat_input=False,
    dropout_ratio=0.1,
    num_classes=21,
    norm_cfg=norm_cfg,
    align_corners=False,
    loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
)
model = dict(
    backbone=dict(
        _delete_=True,
        type="ResNet",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        strides=(1, 2, 1, 1),
        # A stage's first block still has the dilation of the stage before, as in torchvision.
        dilations=(1, 1, 2, 4),
        contract_dilation=True,
        norm_cfg=norm_cfg,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.pytorch.org/models/resnet50-0676ba61.pth",
        ),
    ),
    decode_head=dict(head, _delete_=True, in_channels=2048, in_index=3, channels=512),
    auxiliary_head=dict(
        head,
        in_channels=1024,
        in_index=2,
        channels=256,
        loss_decode=dict(head["loss_decode"], loss_weight=0.5),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
