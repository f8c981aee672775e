"""PASCAL-Context: 4,998 images of VOC 2010 to train on, 5,105 to score, 59 classes and background.

As published: one image at a time, at its own size, unaltered, drawn with replacement; background
is trained and scored like any class. fcn-plugin prepare_data pascal-context makes labels and lists.
"""

_base_ = "../pipelines.py"
# The published networks score the classes in this order (Caffe data/pascal-context/classes-59.txt;
# fcn_plugin.data.pascal_context.PUBLISHED_CLASSES). The label files keep mmseg's alphabetical
# order: the data set maps their values. mmseg does not reorder colours, so they are listed here.
colours = dict(
    background=[120, 120, 120],
    aeroplane=[180, 120, 120],
    bicycle=[140, 140, 140],
    bird=[204, 5, 255],
    boat=[230, 230, 230],
    bottle=[224, 5, 255],
    bus=[150, 5, 61],
    car=[8, 255, 51],
    cat=[255, 6, 82],
    chair=[204, 255, 4],
    cow=[0, 102, 200],
    table=[20, 255, 0],
    dog=[11, 102, 255],
    horse=[7, 255, 224],
    motorbike=[255, 41, 10],
    person=[102, 8, 255],
    pottedplant=[255, 122, 8],
    sheep=[255, 5, 153],
    sofa=[250, 10, 15],
    train=[255, 31, 0],
    tvmonitor=[0, 0, 255],
    bag=[6, 230, 230],
    bed=[80, 50, 50],
    bench=[120, 120, 80],
    book=[4, 250, 7],
    building=[235, 255, 7],
    cabinet=[120, 120, 70],
    ceiling=[143, 255, 140],
    cloth=[255, 51, 7],
    computer=[204, 70, 3],
    cup=[61, 230, 250],
    door=[255, 7, 71],
    fence=[255, 9, 224],
    floor=[9, 7, 230],
    flower=[220, 220, 220],
    food=[255, 9, 92],
    grass=[112, 9, 255],
    ground=[8, 255, 214],
    keyboard=[255, 184, 6],
    light=[10, 255, 71],
    mountain=[7, 255, 255],
    mouse=[224, 255, 8],
    curtain=[255, 6, 51],
    platform=[255, 194, 7],
    sign=[160, 150, 20],
    plate=[255, 61, 6],
    road=[0, 255, 20],
    rock=[255, 8, 41],
    shelves=[6, 51, 255],
    sidewalk=[235, 12, 255],
    sky=[0, 163, 255],
    snow=[140, 140, 140],
    bedclothes=[4, 200, 3],
    track=[31, 255, 0],
    tree=[255, 224, 0],
    truck=[153, 255, 0],
    wall=[255, 71, 0],
    water=[0, 235, 255],
    window=[0, 173, 255],
    wood=[31, 0, 255],
)
metainfo = dict(classes=tuple(colours), palette=list(colours.values()))
load_label = dict(type="LoadCheckedLabel", num_classes=60)
train_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[*_base_.tta_views, [load_label], _base_.tta_pack]),
]

train = dict(
    type="PascalContextDataset",
    data_root="data/VOCdevkit/VOC2010",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext"),
    ann_file="ImageSets/SegmentationContext/train.txt",
    metainfo=metainfo,
    pipeline=train_pipeline,
)
val = dict(train, ann_file="ImageSets/SegmentationContext/val.txt", pipeline=test_pipeline)
# Settings of the test data set for fcn-plugin test --split NAME.
splits = dict(train=dict(ann_file=train["ann_file"]), val=dict(ann_file=val["ann_file"]))

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
