"""FCN-32s on PASCAL-Context, as published: the first of three stages, 300,000 iterations each.

    fcn-plugin train_stages fcn{32s,16s,8s}_vgg16_pascal-context-heavy

Released without scores (Caffe README); not yet run here. Classes are in the published order, not
in mmseg's alphabetical one.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/pascal_context.py",
    "_base_/schedules/heavy_100k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(mean=[104.007, 116.669, 122.679]),
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(4096,), in_index=(0,), num_classes=60),
)
train_cfg = dict(max_iters=300_000)
# Images differ in size, and cuDNN would benchmark every new size.
env_cfg = dict(cudnn_benchmark=False)
