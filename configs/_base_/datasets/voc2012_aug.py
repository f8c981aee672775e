"""PASCAL VOC 2012 with SBD's labels: 10,582 training images, 1,449 to score."""

data_root = "data/VOCdevkit/VOC2012"
crop_size = (512, 512)
# The scope makes it the checked loader; the host's inferencer looks for this name.
load_image = dict(type="LoadImageFromFile", _scope_="fcn_plugin")
load_label = dict(type="LoadCheckedLabel", num_classes=21)
train_pipeline = [
    load_image,
    load_label,
    # VOC images are 500 pixels long: half to twice the size they are scored at.
    dict(type="RandomResize", scale=(500, 500), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
# Scored at the image's own size, as the VOC server does.
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
    type="PascalVOCDataset",
    data_root=data_root,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/train.txt",
    pipeline=train_pipeline,
)
aug = dict(
    train,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassAug"),
    ann_file="ImageSets/Segmentation/aug.txt",
)
val = dict(train, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline)

train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="ConcatDataset", datasets=[train, aug]),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=val,
)
test_dataloader = val_dataloader
val_evaluator = dict(type="ConfusionMatrixMetric")
test_evaluator = val_evaluator
