"""FCN-8s on VOC 2012's own 1,464 training images, to compare with fcn8s_vgg16_voc.py: without SBD.

    python tools/train.py configs/fcn8s_vgg16_voc-train.py

As fcn8s_vgg16_voc.py in all else, as many iterations included; not yet run here. So few images
are for comparisons: take fcn8s_vgg16_voc.py for the better network.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/voc2012.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(512, 512)))
