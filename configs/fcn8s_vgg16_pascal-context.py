"""FCN-8s on PASCAL-Context, 59 classes and background, the modern recipe.

    fcn-plugin train fcn8s_vgg16_pascal-context

To compare with fcn8s_vgg16_pascal-context-heavy.py; not yet run here. Classes are in the
published order.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/pascal_context.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    decode_head=dict(num_classes=60),
)
train_pipeline = [_base_.load_image, _base_.load_label, *_base_.voc_augmentation]
train_dataloader = dict(
    batch_size=16,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
