"""FCN-32s on SBD and VOC 2011, as published: the first of three stages.

    fcn-plugin train_stages                      # 32s, then 16s, then 8s
    fcn-plugin train fcn32s_vgg16_voc2011-heavy  # this one alone

Published: 63.63 mean IU on seg11valid, 90.48 pixel acc., 76.48 mean acc., 83.46 f.w. IU, with the
snapshot of iteration 88,000; not yet run here.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/voc2011.py",
    "_base_/schedules/heavy_100k.py",
    "_base_/runtime.py",
]
model = dict(
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(4096,), in_index=(0,)),
)
# Images differ in size, and cuDNN would benchmark every new size.
env_cfg = dict(cudnn_benchmark=False)
