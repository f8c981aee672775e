"""The texts of the configs that ``configs`` fills in."""

DATASET = '''"""The data set in this folder, made by fcn-plugin prepare_data own."""

_base_ = "{bases}/_base_/datasets/own.py"
data_root = "{{{{ fileDirname }}}}"  # this folder
metainfo = dict(
    classes=[
{classes}    ],
    palette=[
{palette}    ],
)
{load_image}
# Factor by which images are resized, in training and in prediction.
scale = {scale}
{crop_reason}
# Each config beside this file has the same size in data_preprocessor=dict(size=...): change both.
crop_size = {crop}  # height and width
load_label = dict(type="LoadCheckedLabel", num_classes={num_classes})
train_pipeline = [
    load_image,
    load_label,
{windows}    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Resize", scale_factor=scale * zoom)] for zoom in _base_.training_zooms
        ],
    ),
    dict(type="FastRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    *_base_.{after_crop},
]
test_pipeline = [
    load_image,
    dict(type="Resize", scale_factor=scale),
    # After Resize: the prediction is scored at the label's own size.
    load_label,
    dict(type="PackSegInputs"),
]
tta_pipeline = [
    load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale_factor=scale * zoom) for zoom in _base_.tta_zooms],
            _base_.as_is_and_mirrored,
            [load_label],
            [dict(type="PackSegInputs")],
        ],
    ),
]
train = dict(
    data_root=data_root, img_suffix="{suffix}", metainfo=metainfo, pipeline=train_pipeline
)
val = dict(train, pipeline=test_pipeline)
train_dataloader = dict(dataset=train)
val_dataloader = dict(dataset=val)
test_dataloader = val_dataloader
{test}'''

# Of pictures of three bands of 8 bits, and of others.
LOAD_PHOTO = "load_image = _base_.load_image"
LOAD_BANDS = """\
# Of each band, over the training images.
mean = {mean}
std = {std}
load_image = dict(
    type="LoadBands",
    bands={bands},
    dtype="{dtype}",
    fill=mean,  # of pixels without data
    # Shown as red, green and blue, or in grey; counted from 1.
    display_bands={display},
)"""
PHOTO = """\
    data_preprocessor=dict(size={crop}),
"""
BANDS = """\
    data_preprocessor=dict(
        _delete_=True, type="BandsPreProcessor", mean=_base_.mean, std=_base_.std, size={crop}
    ),
    backbone=dict(in_channels={bands}),
"""

# Inserted for large images.
WINDOWS = """\
    # A window that is enough for a crop at the smallest zoom; resizing a whole large image is slow.
    dict(type="FastRandomCrop", crop_size=tuple(int(2 * side / scale) for side in crop_size)),
"""
SLIDE = """\
    # Windows that overlap: a whole image of {size} would take much memory.
    test_cfg=dict(mode="slide", crop_size=({side}, {side}), stride=({stride}, {stride})),
"""

TRAINING = '''"""FCN-8s on the data set in this folder, {training.weights} ImageNet weights.

{train_it}
{test_it}
"""

_base_ = [
    "{bases}/_base_/models/{training.model}.py",
    "dataset.py",
    "{bases}/_base_/schedules/{training.schedule}.py",
    "{bases}/_base_/runtime.py",
]
model = dict(
{preprocessor}{head}{slide})
{batch_reason}
train_dataloader = dict(batch_size={plan.batch})
{rate_reason}
optim_wrapper = dict(optimizer=dict(lr={rate:g}))
{iterations_reason}
max_iters = {plan.iterations}
train_cfg = dict(max_iters=max_iters, val_interval={interval})
param_scheduler = [
    dict(_base_.param_scheduler[0], end={tenth}),
    dict(_base_.param_scheduler[1], begin={tenth}, end=max_iters),
]
default_hooks = dict(
    checkpoint=dict(interval={interval}),
{early_reason}
    {early}early_stopping=dict(type="LastingPatienceHook", monitor="mIoU", patience=3),
    # Scores and saves the average of the weights over about the last {window} iterations.
    # ema=dict(type="EMAHook", begin_iter={tenth}, momentum={momentum:.2g}),
)
'''

HEAD = """\
    decode_head=dict(num_classes={num_classes}),
"""
# For --class-weight auto.
WEIGHTED_HEAD = """\
    decode_head=dict(
        num_classes={num_classes},
        # Median frequency balancing: the median of the classes' frequencies in train, divided by
        # the class's own; 1 for a class that no picture there shows.
        loss_decode=dict(
            type="CrossEntropyLoss",
            avg_non_ignore=True,
            class_weight={weights},
        ),
    ),
"""
