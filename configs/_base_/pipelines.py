"""Steps of pipelines, and data loaders, that the data sets share.

A config with this file as its base uses them as ``_base_.NAME``.
"""

# The scope selects fcn_plugin's checked loader; mmseg's inferencer needs this type name.
load_image = dict(type="LoadImageFromFile", _scope_="fcn_plugin")

# Steps after loading an image of VOC and its label. These images are 500 pixels long, so they are
# resized to between half and twice the size they are scored at.
voc_augmentation = [
    dict(type="RandomResize", scale=(500, 500), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="FastRandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="FastRandomFlip", prob=0.5),
    dict(type="FastPhotoMetricDistortion"),
    dict(type="FastPackSegInputs"),
]

# Views for TestTimeAug, which combines each scale with each flip. Scale 1.0 without flip is the
# image of the test pipeline.
multi_scale = [
    dict(type="Resize", scale_factor=factor, keep_ratio=True)
    for factor in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
]
as_is_and_mirrored = [
    dict(type="FastRandomFlip", prob=0.0, direction="horizontal"),
    dict(type="FastRandomFlip", prob=1.0, direction="horizontal"),
]
# TestTimeAug's transforms, except the loading of labels, which differs by data set.
tta_views = [multi_scale, as_is_and_mirrored]
tta_pack = [dict(type="PackSegInputs")]

# For training: ``dict(_base_.train_loader, batch_size=..., dataset=...)``, with endless batches.
train_loader = dict(
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
)
# For scoring: each image once, in a batch of its own since sizes differ.
score_loader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
)
