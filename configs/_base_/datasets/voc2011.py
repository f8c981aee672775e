"""SBD's 8,498 training images, scored on 736 of VOC 2011 that are not among them (seg11valid).

As published: one image at a time, at its own size, unaltered, drawn with replacement. SBD is the
folder ``dataset`` of its archive, with its labels as PNGs in ``SegmentationClass``.
"""

_base_ = "../pipelines.py"
load_label = dict(type="LoadCheckedLabel", num_classes=21)
train_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[*_base_.tta_views, [load_label], _base_.tta_pack]),
]

train = dict(
    type="PascalVOCDataset",
    data_root="data/sbd",
    data_prefix=dict(img_path="img", seg_map_path="SegmentationClass"),
    ann_file="train.txt",
    pipeline=train_pipeline,
)
val = dict(
    type="PascalVOCDataset",
    data_root="data/VOCdevkit/VOC2011",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/seg11valid.txt",
    pipeline=test_pipeline,
)
# Settings of the test data set for fcn-plugin test --split NAME. train and val are VOC's own 1,112
# and 1,111 images; 375 images of val are among SBD's training images.
splits = dict(
    seg11valid=dict(ann_file="ImageSets/Segmentation/seg11valid.txt"),
    train=dict(ann_file="ImageSets/Segmentation/train.txt"),
    val=dict(ann_file="ImageSets/Segmentation/val.txt"),
)

train_dataloader = dict(
    _base_.train_loader,
    batch_size=1,
    sampler=dict(type="ReplacementSampler"),
    dataset=train,
)
val_dataloader = dict(_base_.score_loader, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
