"""SBD's 8,498 training images, scored on 736 of VOC 2011 that are not among them (seg11valid).

As published: one image at a time, at its own size, unaltered, drawn with replacement. SBD is the
folder ``dataset`` of its archive, with its labels as PNGs in ``SegmentationClass``.
"""

# The scope makes it the checked loader; the host's inferencer looks for this name.
load_image = dict(type="LoadImageFromFile", _scope_="fcn_plugin")
load_label = dict(type="LoadCheckedLabel", num_classes=21)
train_pipeline = [load_image, load_label, dict(type="PackSegInputs")]
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

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="ReplacementSampler"),
    dataset=train,
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
