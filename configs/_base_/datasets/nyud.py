"""NYUDv2 in 40 classes: 795 images to train on (trainval), 654 to score (test), with their color.

As published: one image at a time, at its own size, unaltered, drawn with replacement.
"""

_base_ = "../pipelines.py"
load_label = dict(type="LoadCheckedLabel", num_classes=40)
train_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[*_base_.tta_views, [load_label], _base_.tta_pack]),
]

train = dict(
    type="NYUDv2Dataset",
    data_root="data/nyud",
    data_prefix=dict(img_path="data/images", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/trainval.txt",
    pipeline=train_pipeline,
)
test = dict(train, ann_file="ImageSets/Segmentation/test.txt", pipeline=test_pipeline)
# Settings of the test data set for fcn-plugin test --split NAME. trainval is train and val.
splits = dict(
    test=dict(ann_file=test["ann_file"]),
    trainval=dict(ann_file=train["ann_file"]),
    train=dict(ann_file="ImageSets/Segmentation/train.txt"),
    val=dict(ann_file="ImageSets/Segmentation/val.txt"),
)

train_dataloader = dict(
    _base_.train_loader,
    batch_size=1,
    sampler=dict(type="ReplacementSampler"),
    dataset=train,
)
# The published runs score their snapshots on the test images; there are no others left.
val_dataloader = dict(_base_.score_loader, dataset=test)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
