"""CamVid in SegNet's split and size: 367 training frames, 101 to score, 480 x 360, 11 classes."""

data_root = "data/camvid"
crop_size = (360, 480)
# The scope makes it the checked loader; the host's inferencer looks for this name.
load_image = dict(type="LoadImageFromFile", _scope_="fcn_plugin")
load_label = dict(type="LoadCheckedLabel", num_classes=11)
train_pipeline = [
    load_image,
    load_label,
    dict(type="RandomResize", scale=(480, 360), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale_factor=factor, keep_ratio=True)
                for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            [load_label],
            [dict(type="PackSegInputs")],
        ],
    ),
]

train = dict(
    type="CamVidDataset",
    data_root=data_root,
    data_prefix=dict(img_path="train", seg_map_path="trainannot"),
    pipeline=train_pipeline,
)
val = dict(train, data_prefix=dict(img_path="val", seg_map_path="valannot"), pipeline=test_pipeline)

train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=train,
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=val,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
