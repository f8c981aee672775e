"""What the data sets have in common: steps of their pipelines, and their data loaders.

A file that has this one as its base takes them as ``_base_.NAME``.
"""

# The scope makes it the checked loader; mmseg's inferencer looks for this name.
load_image = dict(type="LoadImageFromFile", _scope_="fcn_plugin")

# After loading an image of VOC and its label. These images are 500 pixels long: half to twice the
# size they are scored at.
voc_augmentation = [
    dict(type="RandomResize", scale=(500, 500), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="FastRandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]

# What TestTimeAug tries of each image, in any combination. 1.0 and unmirrored is the image as the
# test pipeline has it.
multi_scale = [
    dict(type="Resize", scale_factor=factor, keep_ratio=True)
    for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
as_is_and_mirrored = [
    dict(type="FastRandomFlip", prob=0.0, direction="horizontal"),
    dict(type="FastRandomFlip", prob=1.0, direction="horizontal"),
]
# All of TestTimeAug but the label, which each data set loads in its own way.
tta_views = [multi_scale, as_is_and_mirrored]
tta_pack = [dict(type="PackSegInputs")]

# ``dict(_base_.train_loader, batch_size=..., dataset=...)`` to train with, in an order without end.
train_loader = dict(
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
)
# To score with: each image once, at its own size and so alone in its batch.
score_loader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
