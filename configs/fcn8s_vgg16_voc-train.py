"""FCN-8s on VOC 2012's own 1,464 training images, to compare with fcn8s_vgg16_voc.py: without SBD.

    fcn-plugin train fcn8s_vgg16_voc-train

Otherwise equal to fcn8s_vgg16_voc.py, including the iterations; not yet run here. Only for
comparisons: fcn8s_vgg16_voc.py trains the better network.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/voc2012.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(512, 512)))
