"""Small drawn pictures, in which a class is a shape of any colour; needs no download.

Written by ``fcn-plugin prepare_data shapes``: 4,000 training pictures, 500 to score, 64 x 64.
"""

_base_ = "../pipelines.py"
data_root = "data/shapes"
metainfo = dict(
    classes=("background", "circle", "square", "triangle", "star"),
    palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]],
)
load_label = dict(type="LoadCheckedLabel", num_classes=5)
train_pipeline = [
    _base_.load_image,
    load_label,
    dict(type="FastRandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="FastPackSegInputs"),
]
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[_base_.as_is_and_mirrored, [load_label], _base_.tta_pack]),
]

train = dict(
    type="BaseSegDataset",
    data_root=data_root,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/train.txt",
    metainfo=metainfo,
    pipeline=train_pipeline,
)
val = dict(train, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline)
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(train=dict(ann_file=train["ann_file"]), val=dict(ann_file=val["ann_file"]))

train_dataloader = dict(_base_.train_loader, batch_size=32, num_workers=1, dataset=train)
val_dataloader = dict(_base_.score_loader, batch_size=32, num_workers=1, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
