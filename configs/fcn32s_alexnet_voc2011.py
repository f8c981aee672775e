"""FCN-AlexNet on SBD and VOC 2011, as published: 100,000 updates of 20 images, mean loss.

    fcn-plugin train fcn32s_alexnet_voc2011

Published: 48.0 mean IU on seg11valid (Caffe README); not yet run here.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/voc2011.py",
    "_base_/schedules/heavy_100k.py",
    "_base_/runtime.py",
]
model = dict(
    backbone=dict(
        _delete_=True,
        type="ConvolutionalizedAlexNet",
        variant="caffenet",
        padding="reference",
        out_indices=(3,),  # fc7
        init_cfg=dict(type="Pretrained", checkpoint="caffe://caffenet"),
    ),
    decode_head=dict(
        in_channels=(4096,),
        in_index=(0,),
        loss_decode=dict(reduction="mean", avg_non_ignore=True),
    ),
)
# One iteration takes one image; an update accumulates twenty.
accumulated = 20
train_cfg = dict(max_iters=100_000 * accumulated, val_interval=4_000 * accumulated)
optim_wrapper = dict(
    accumulative_counts=accumulated,
    optimizer=dict(lr=1e-4, momentum=0.9),
    # Only the bias of the score layer has its own rate and decay (Caffe voc-fcn-alexnet/net.py).
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys={"decode_head.score.0.bias": dict(lr_mult=2.0, decay_mult=0.0)},
    ),
)
default_hooks = dict(checkpoint=dict(interval=4_000 * accumulated))
# Images differ in size, and cuDNN would benchmark every new size.
env_cfg = dict(cudnn_benchmark=False)
