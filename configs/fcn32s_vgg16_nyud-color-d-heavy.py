"""FCN-32s on NYUDv2's color and depth in four channels, early fusion, as published.

    fcn-plugin prepare_data nyud
    fcn-plugin train fcn32s_vgg16_nyud-color-d-heavy

Published: 30.5 mean IU on test, 61.5 pixel acc., 42.4 mean acc., 45.5 f.w. IU (CVPR, table 4), but
not its weights; not yet run here.
"""

_base_ = "fcn32s_vgg16_nyud-color-heavy.py"
# The log of the depth in millimetres; where nothing was measured, its mean.
load_bands = dict(type="LoadSideBySide", files=dict(images="bgr", depth="log"), missing=7.844)
pipeline = [load_bands, _base_.load_label, dict(type="PackSegInputs")]
tta_pipeline = [load_bands, _base_.tta_pipeline[1]]
of_bands = dict(dataset=dict(pipeline=pipeline))
train_dataloader = of_bands
val_dataloader = of_bands
test_dataloader = of_bands
model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type="BandsPreProcessor",
        mean=[116.190, 97.203, 92.318, 7.844],
        std=[1.0, 1.0, 1.0, 1.0],
        size_divisor=1,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        in_channels=4,
        # Depth starts with the mean of the three filters (Caffe nyud-fcn32s-color-d/solve.py).
        init_cfg=dict(keep_colours=True),
    ),
)
