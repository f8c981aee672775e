"""FCN-8s on the data of the published networks (SBD, VOC 2011), the modern recipe.

    fcn-plugin train fcn8s_vgg16_voc2011

To compare with fcn8s_vgg16_voc2011-heavy.py, published with 65.51 mean IU on seg11valid. Others
report 68.5 for this recipe on VOC 2012 with 10,582 images; not yet run here.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/voc2011.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(512, 512)))
train_pipeline = [_base_.load_image, _base_.load_label, *_base_.voc_augmentation]
train_dataloader = dict(
    batch_size=16,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
