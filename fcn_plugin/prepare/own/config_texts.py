"""The texts of configs for a user's own data set, which ``configs`` fills in."""

DATASET = '''"""The data set in this folder, made by tools/prepare_data.py own."""

_base_ = "{bases}/_base_/pipelines.py"
data_root = "{{{{ fileDirname }}}}"  # this folder
metainfo = dict(
    classes=[
{classes}    ],
    palette=[
{palette}    ],
)
# Factor by which images are seen smaller or larger than they are, in training and after.
scale = {scale}
crop_size = {crop}  # height and width
load_label = dict(type="LoadCheckedLabel", num_classes={num_classes})
train_pipeline = [
    _base_.load_image,
    load_label,
{windows}    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Resize", scale_factor=scale * factor)]
            for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
        ],
    ),
    dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale_factor=scale),
    # After Resize: the prediction is scored at the label's own size.
    load_label,
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    _base_.load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale_factor=scale * factor)
                for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            _base_.as_is_and_mirrored,
            [load_label],
            [dict(type="PackSegInputs")],
        ],
    ),
]

train = dict(
    type="BaseSegDataset",
    data_root=data_root,
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
    ann_file="ImageSets/Segmentation/train.txt",
    img_suffix="{suffix}",
    metainfo=metainfo,
    pipeline=train_pipeline,
)
val = dict(train, ann_file="ImageSets/Segmentation/val.txt", pipeline=test_pipeline)
# What tools/test.py --split puts in place of val's settings.
splits = dict(
    train=dict(ann_file=train["ann_file"]),
    val=dict(ann_file=val["ann_file"]),
{test})

train_dataloader = dict(
    batch_size={batch},
    num_workers=2,
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
'''

# Of large images.
WINDOWS = """\
    # What the smallest factor makes a crop of; to resize all of a large image takes long.
    dict(type="FastRandomCrop", crop_size=tuple(int(2 * side / scale) for side in crop_size)),
"""
SLIDE = """\
    # Windows that overlap: whole, an image of {width} x {height} would take much memory.
    test_cfg=dict(mode="slide", crop_size=({side}, {side}), stride=({stride}, {stride})),
"""

PRETRAINED = '''"""FCN-8s on the data set in this folder, from ImageNet weights.

{train_it}
{test_it}
"""

_base_ = [
    "{bases}/_base_/models/fcn8s_vgg16.py",
    "dataset.py",
    "{bases}/_base_/schedules/sgd_40k.py",
    "{bases}/_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size={crop}),
    decode_head=dict(num_classes={num_classes}),
{slide})
# Half of the schedule's, as batches are half as wide.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
max_iters = {iters}
train_cfg = dict(max_iters=max_iters, val_interval={interval})
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, begin=0, end={warm_up}, by_epoch=False),
    dict(type="PolyLR", power=0.9, eta_min=0.0, begin={warm_up}, end=max_iters, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval={interval}))
'''

SCRATCH = '''"""FCN-8s, a quarter as wide, on the data set in this folder, without ImageNet weights.

{train_it}
{test_it}
"""

_base_ = [
    "{bases}/_base_/models/fcn8s_vgg16.py",
    "dataset.py",
    "{bases}/_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size={crop}),
    backbone=dict(
        base_channels=16,
        fc_channels=256,
        dropout_ratio=0.1,
        norm_cfg=dict(type="BN"),
        init_cfg=None,
    ),
    decode_head=dict(in_channels=(64, 128, 256), num_classes={num_classes}),
{slide})
max_iters = {iters}
train_cfg = dict(type="ExactTrainLoop", max_iters=max_iters, val_interval={interval})
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-3, weight_decay=1e-2))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, begin=0, end={warm_up}, by_epoch=False),
    dict(type="CosineAnnealingLR", begin={warm_up}, end=max_iters, eta_min=0.0, by_epoch=False),
]
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(
        type="SnapshotHook", by_epoch=False, interval={interval}, max_keep_ckpts=2, save_best="mIoU"
    ),
    score_resumed=dict(type="ScoreResumedHook"),
    bad_numbers=dict(type="BadNumbersHook"),
    visualization=dict(type="SegVisualizationHook"),
)
randomness = dict(seed=0)
'''

# name, text, passes over the training images, least iterations
RECIPES = (
    ("fcn8s_vgg16_{}", PRETRAINED, 100, 2000),
    ("fcn8s_vgg16-bn_{}-scratch", SCRATCH, 100, 400),
)
