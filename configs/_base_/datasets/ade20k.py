"""ADE20K (MIT scene parsing): 20,210 training images, 2,000 to score, 3,352 without labels.

150 classes: in the files 0 is "other", neither trained nor scored; the classes are 1-150.
"""

_base_ = "../pipelines.py"
data_root = "data/ade/ADEChallengeData2016"
crop_size = (512, 512)
load_label = dict(type="LoadCheckedLabel", num_classes=150)
train_pipeline = [
    _base_.load_image,
    load_label,
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    # The label is loaded after Resize, since predictions are scored at the label's own size.
    load_label,
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    _base_.load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            # Multiples of the scale of test_pipeline.
            [
                dict(type="Resize", scale=(int(2048 * factor), int(512 * factor)), keep_ratio=True)
                for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            _base_.as_is_and_mirrored,
            [load_label],
            _base_.tta_pack,
        ],
    ),
]

train = dict(
    type="ADE20KDataset",
    data_root=data_root,
    data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
    pipeline=train_pipeline,
)
val = dict(
    train,
    data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
    pipeline=test_pipeline,
)
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(
    train=dict(data_prefix=train["data_prefix"]),
    val=dict(data_prefix=val["data_prefix"]),
    test=dict(data_prefix=dict(img_path="images/testing")),
)

train_dataloader = dict(_base_.train_loader, batch_size=16, dataset=train)
val_dataloader = dict(_base_.score_loader, dataset=val)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric", absent="zero")  # MIT's rule
test_evaluator = val_evaluator
