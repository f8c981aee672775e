"""CamVid in SegNet's split and size: 480 x 360, 11 classes.

367 training frames, 101 to score during training (val), 233 of the published figures (test).
"""

_base_ = "../pipelines.py"
data_root = "data/camvid"
crop_size = (360, 480)
load_label = dict(type="LoadCheckedLabel", num_classes=11)
train_pipeline = [
    _base_.load_image,
    load_label,
    dict(type="RandomResize", scale=(480, 360), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[*_base_.tta_views, [load_label], _base_.tta_pack]),
]

train = dict(
    type="CamVidDataset",
    data_root=data_root,
    data_prefix=dict(img_path="train", seg_map_path="trainannot"),
    pipeline=train_pipeline,
)
val = dict(train, data_prefix=dict(img_path="val", seg_map_path="valannot"), pipeline=test_pipeline)
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(
    train=dict(data_prefix=train["data_prefix"]),
    val=dict(data_prefix=val["data_prefix"]),
    test=dict(data_prefix=dict(img_path="test", seg_map_path="testannot")),
)

train_dataloader = dict(_base_.train_loader, batch_size=8, dataset=train)
val_dataloader = dict(_base_.score_loader, num_workers=2, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
