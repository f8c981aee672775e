"""FCN-32s on SIFT Flow, semantic and geometric classes at once, as published: the first of three
stages, 100,000 iterations each.

    fcn-plugin train_stages fcn{32s,16s,8s}_vgg16_siftflow-heavy

Released without scores (Caffe README); not yet run here.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/siftflow.py",
    "_base_/schedules/heavy_100k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(mean=[114.578, 115.294, 108.353]),
    backbone=dict(out_indices=(5,)),
    decode_head=dict(in_channels=(4096,), in_index=(0,), num_classes=33),
    # The losses of both heads are summed.
    task_heads=dict(
        geo=dict(
            type="SkipFusionHead",
            in_channels=(4096,),
            in_index=(0,),
            num_classes=3,
            loss_decode=dict(type="CrossEntropyLoss", reduction="sum"),
        )
    ),
)
# Scored every 2,000 iterations (Caffe siftflow-fcn32s/solve.py).
train_cfg = dict(val_interval=2_000)
default_hooks = dict(checkpoint=dict(interval=2_000))
