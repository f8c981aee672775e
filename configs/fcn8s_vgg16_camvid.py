"""FCN-8s on CamVid from ImageNet weights.

    fcn-plugin train fcn8s_vgg16_camvid
    fcn-plugin test fcn8s_vgg16_camvid work_dirs/fcn8s_vgg16_camvid --split test

Others report 57.0 mean IU on the test split for FCN-8; not yet run here.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/camvid.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(360, 480)),
    decode_head=dict(num_classes=11),
)
