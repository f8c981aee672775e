"""Settings shared by all data sets that ``fcn-plugin prepare_data own`` makes.

Each data set's ``dataset.py`` has this file as its base, and adds folder, classes and pipelines.
"""

_base_ = "../pipelines.py"

# Resizing factors of images, to be multiplied by the scale of the data set.
training_zooms = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
tta_zooms = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
after_crop = [
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]
# The same without the change of colours, which bands are not.
bands_after_crop = [step for step in after_crop if step["type"] != "FastPhotoMetricDistortion"]

train = dict(
    type="BaseSegDataset",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/train.txt",
)
val = dict(train, ann_file="ImageSets/Segmentation/val.txt")
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(train=dict(ann_file=train["ann_file"]), val=dict(ann_file=val["ann_file"]))

train_dataloader = dict(_base_.train_loader, batch_size=8, num_workers=2, dataset=train)
val_dataloader = dict(_base_.score_loader, num_workers=2, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
