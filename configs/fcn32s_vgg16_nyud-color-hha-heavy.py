"""FCN-32s on NYUDv2's color and HHA, late fusion of two networks, as published.

    fcn-plugin convert_weights COLOR.pth both.pth --late-fusion HHA.pth
    fcn-plugin train fcn32s_vgg16_nyud-color-hha-heavy --cfg-options load_from=both.pth

COLOR.pth and HHA.pth are of fcn32s_vgg16_nyud-color-heavy and fcn32s_vgg16_nyud-hha-heavy; without
them the learning rate is too low. Published: 32.8 mean IU on test, 64.3 pixel acc., 44.9 mean acc.,
48.0 f.w. IU (CVPR, table 4); not yet run here.
"""

_base_ = "fcn32s_vgg16_nyud-color-heavy.py"
load_bands = dict(type="LoadSideBySide", files=dict(images="bgr", hha="rgb"))
pipeline = [load_bands, _base_.load_label, dict(type="PackSegInputs")]
tta_pipeline = [load_bands, _base_.tta_pipeline[1]]
of_bands = dict(dataset=dict(pipeline=pipeline))
train_dataloader = of_bands
val_dataloader = of_bands
test_dataloader = of_bands
vgg16 = dict(type="ConvolutionalizedVGG", depth=16, padding="reference", out_indices=(5,))
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type="BandsPreProcessor",
        mean=[116.190, 97.203, 92.318, 132.431, 94.076, 118.477],
        std=[1.0] * 6,
        size_divisor=1,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(_delete_=True, type="Streams", streams=[vgg16, vgg16], channels=(3, 3)),
    decode_head=dict(in_channels=(4096, 4096), in_index=(0, 1), strides=(32, 32)),
)
# The published scores are the mean of the streams', ours the sum, with half of each score layer. So
# that they learn alike, their gradients, twice as large, are taken at a quarter of the rate.
half = dict(lr_mult=0.25, decay_mult=4.0)
half_bias = dict(lr_mult=0.5, decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(lr=1e-12),
    paramwise_cfg=dict(
        custom_keys={
            "decode_head.score.0.weight": half,
            "decode_head.score.1.weight": half,
            "decode_head.score.0.bias": half_bias,
            "decode_head.score.1.bias": half_bias,
        }
    ),
)
