"""mmseg's FCN head on EfficientNet-Lite0 on CamVid, to compare with the skip-fusion head.

    fcn-plugin train fcn_efficientnet-lite0_camvid --amp
    fcn-plugin test fcn_efficientnet-lite0_camvid work_dirs/fcn_efficientnet-lite0_camvid

It sees the same three levels, resized to stride 8 and concatenated, as in mmseg's FCN on HRNet.
Measured in docs/camvid.md.
"""

_base_ = "fcn8s_efficientnet-lite0_camvid.py"
model = dict(
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_channels=[40, 112, 320],
        in_index=[0, 1, 2],
        input_transform="resize_concat",
        channels=472,
        kernel_size=1,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=_base_.model.decode_head.loss_decode,
    ),
)
