"""FCN-8s on ADE20K, 150 classes.

    fcn-plugin train fcn8s_vgg16_ade20k

MIT reports 29.39 mean IoU and 71.32 pixel accuracy for its FCN-8s; not yet run here.

For speed or memory, as the device has it (docs/speed.md):

    --amp
    --cfg-options compile=True
    --cfg-options model.backbone.with_cp=True
    --cfg-options train_dataloader.batch_size=32
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/ade20k.py",
    "_base_/schedules/sgd_80k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    decode_head=dict(num_classes=150),
)
