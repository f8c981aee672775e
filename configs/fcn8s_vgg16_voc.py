"""FCN-8s on VOC 2012 + SBD, the modern recipe: all layers at once, augmentation, batch 16.

    fcn-plugin train fcn8s_vgg16_voc
    fcn-plugin dist_train fcn8s_vgg16_voc 4 --cfg-options train_dataloader.batch_size=4

Others report 68.5 mean IU on VOC 2012 val for this network trained this way; not yet run here.

For speed or memory, as the device has it (docs/speed.md):

    --amp
    --cfg-options compile=True
    --cfg-options model.backbone.with_cp=True
    --cfg-options train_dataloader.batch_size=32
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/voc2012_aug.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(512, 512)))
