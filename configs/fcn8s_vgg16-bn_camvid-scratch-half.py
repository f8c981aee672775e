"""fcn8s_vgg16-bn_camvid-scratch.py at half the resolution: one hour on two CPU cores.

fcn-plugin train fcn8s_vgg16-bn_camvid-scratch-half
"""

_base_ = "fcn8s_vgg16-bn_camvid-scratch.py"
model = dict(data_preprocessor=dict(size=(180, 240)))
train_pipeline = [
    _base_.load_image,
    _base_.load_label,
    dict(type="RandomResize", scale=(240, 180), ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type="FastRandomCrop", crop_size=(180, 240), cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale=(240, 180), keep_ratio=True),
    # The label is loaded after Resize, since predictions are scored at the label's own size.
    _base_.load_label,
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    _base_.load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=scale, keep_ratio=True)
                for scale in ((240, 180), (360, 270))
            ],
            _base_.as_is_and_mirrored,
            [_base_.load_label],
            [dict(type="PackSegInputs")],
        ],
    ),
]
train_dataloader = dict(num_workers=1, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=1, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_iters = 1400
train_cfg = dict(max_iters=max_iters, val_interval=200)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=200))
