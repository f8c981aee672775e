r"""mmseg's SegFormer head on EfficientNet-Lite0 on CamVid, to compare with the skip-fusion head.

    fcn-plugin train segformer_efficientnet-lite0_camvid --amp
    fcn-plugin test segformer_efficientnet-lite0_camvid \
        work_dirs/segformer_efficientnet-lite0_camvid

It takes the levels of stride 4, 8, 16 and 32, as it does of MiT. Measured in docs/camvid.md.
"""

_base_ = "fcn8s_efficientnet-lite0_camvid.py"
model = dict(
    backbone=dict(out_indices=(1, 2, 3, 4)),
    decode_head=dict(
        _delete_=True,
        type="SegformerHead",
        in_channels=[24, 40, 112, 320],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=_base_.model.decode_head.loss_decode,
    ),
)
