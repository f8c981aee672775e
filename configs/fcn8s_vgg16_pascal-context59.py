"""FCN-8s on PASCAL-Context's 59 classes: background is void, neither trained nor scored.

    fcn-plugin train fcn8s_vgg16_pascal-context59

Otherwise equal to fcn8s_vgg16_pascal-context.py; not yet run here. Classes are in the published
order, without background.
"""

_base_ = "fcn8s_vgg16_pascal-context.py"
model = dict(decode_head=dict(num_classes=59))
load_label = dict(type="LoadCheckedLabel", num_classes=59)
train_pipeline = [_base_.load_image, load_label, *_base_.voc_augmentation]
test_pipeline = [_base_.load_image, load_label, dict(type="PackSegInputs")]
tta_pipeline = [
    _base_.load_image,
    dict(type="TestTimeAug", transforms=[*_base_.tta_views, [load_label], _base_.tta_pack]),
]
# The files are the same: 0, the background, becomes void, and the other values count from 0.
without_background = dict(
    type="PascalContextDataset59",
    metainfo=dict(classes=_base_.metainfo.classes[1:], palette=_base_.metainfo.palette[1:]),
)
train_dataloader = dict(dataset=dict(without_background, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(without_background, pipeline=test_pipeline))
test_dataloader = val_dataloader
