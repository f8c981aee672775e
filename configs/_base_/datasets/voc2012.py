"""PASCAL VOC 2012: 1,464 training images, 1,449 to score, 1,456 without labels for its server."""

_base_ = "../pipelines.py"
data_root = "data/VOCdevkit/VOC2012"
load_label = dict(type="LoadCheckedLabel", num_classes=21)
train_pipeline = [_base_.load_image, load_label, *_base_.voc_augmentation]
# Images are scored at their own size, as on the VOC server.
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[*_base_.tta_views, [load_label], _base_.tta_pack]),
]

train = dict(
    type="PascalVOCDataset",
    data_root=data_root,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/train.txt",
    pipeline=train_pipeline,
)
val = dict(train, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline)
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(
    train=dict(ann_file="ImageSets/Segmentation/train.txt"),
    val=dict(ann_file="ImageSets/Segmentation/val.txt"),
    test=dict(
        ann_file="ImageSets/Segmentation/test.txt",
        data_prefix=dict(img_path="JPEGImages"),
    ),
)

train_dataloader = dict(_base_.train_loader, batch_size=16, dataset=train)
val_dataloader = dict(_base_.score_loader, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
