"""Skip fusion on timm's EfficientNet-B0, or any feature backbone of timm: pip install timm.

    fcn-plugin train fcn8s_efficientnet-b0_voc

timm downloads its ImageNet weights itself. Not run here yet.
"""

_base_ = "fcn8s_vgg16_voc.py"
model = dict(
    backbone=dict(
        _delete_=True,
        type="TIMMBackbone",
        model_name="efficientnet_b0",
        out_indices=(2, 3, 4),
        pretrained=True,
    ),
    decode_head=dict(in_channels=(40, 112, 320)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-2))
