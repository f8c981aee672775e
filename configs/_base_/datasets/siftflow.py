"""SIFT Flow: 2,486 images to train on, 200 to score, 33 semantic and 3 geometric classes.

As published: one image of 256 x 256 pixels at a time, unaltered, drawn with replacement. The
classes that no test image has (cow, desert, moon) are excluded from the means.
"""

_base_ = "../pipelines.py"
load_labels = [
    dict(type="LoadCheckedLabel", num_classes=33),
    dict(type="LoadCheckedLabel", num_classes=3, task="geo"),
]
train_pipeline = [_base_.load_image, *load_labels, dict(type="FastPackSegInputs")]
test_pipeline = [_base_.load_image, *load_labels, dict(type="FastPackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            *_base_.tta_views,
            [load_labels[0]],
            [load_labels[1]],
            [dict(type="FastPackSegInputs")],
        ],
    ),
]

train = dict(
    type="SIFTFlowDataset",
    data_root="data/siftflow",
    data_prefix=dict(
        img_path="Images/spatial_envelope_256x256_static_8outdoorcategories",
        seg_map_path="labels/semantic",
        geo_seg_map_path="labels/geometric",
    ),
    ann_file="trainval.txt",
    pipeline=train_pipeline,
)
test = dict(train, ann_file="test.txt", pipeline=test_pipeline)
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(test=dict(ann_file="test.txt"), trainval=dict(ann_file="trainval.txt"))

train_dataloader = dict(
    _base_.train_loader,
    batch_size=1,
    sampler=dict(type="ReplacementSampler"),
    dataset=train,
)
# There is no other split: as published, snapshots are scored on the test images, too.
val_dataloader = dict(_base_.score_loader, dataset=test)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="ConfusionMatrixMetric", absent="exclude"),
    dict(type="ConfusionMatrixMetric", task="geo"),
]
test_evaluator = val_evaluator
