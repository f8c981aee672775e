"""SegNet on CamVid: VGG16's mirror with max unpooling (arXiv 1511.00561), not trained here.

    fcn-plugin train segnet_vgg16-bn_camvid
    fcn-plugin test segnet_vgg16-bn_camvid work_dirs/segnet_vgg16-bn_camvid --split test

From the paper, where it compares decoders: whole frames of 480 x 360 in batches of 12, each once an
epoch, SGD at a fixed rate of 0.1 with momentum 0.9, median frequency weights. From the authors'
SegNet-Tutorial (Models/segnet_train.prototxt and segnet_solver.prototxt): the layers, the class
weights, weight decay, 40,000 iterations; its rate is 0.001, its batches are of 4. ImageNet weights,
as the network is named there. Not as published: frames are less the mean of ImageNet (paper: local
contrast normalisation; tutorial: nothing), and the loss is divided by the pixels' weights
(caffe-segnet: by their number).

Twelve frames take much memory; where it is short, as the tutorial:
--cfg-options train_dataloader.batch_size=4 optim_wrapper.optimizer.lr=0.001
"""

_base_ = [
    "_base_/models/fcn8s_vgg16_reference.py",
    "_base_/datasets/camvid.py",
    "_base_/schedules/sgd_40k.py",
    "_base_/runtime.py",
]
norm_cfg = dict(type="BN")
model = dict(
    backbone=dict(padding="same", out_indices=(4,), norm_cfg=norm_cfg, switches=True),
    decode_head=dict(
        _delete_=True,
        type="UnpoolingHead",
        in_channels=512,  # pool5
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=dict(
            type="CrossEntropyLoss",
            avg_non_ignore=True,
            class_weight=[
                *(0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826),
                *(9.6446, 1.8418, 0.6823, 6.2478, 7.3614),
            ],
        ),
    ),
)
train_pipeline = [_base_.load_image, _base_.load_label, dict(type="FastPackSegInputs")]
train_dataloader = dict(batch_size=12, dataset=dict(pipeline=train_pipeline))
train_cfg = dict(val_interval=1000)
optim_wrapper = dict(optimizer=dict(lr=0.1))
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=1000))
