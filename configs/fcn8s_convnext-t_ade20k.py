"""Skip fusion on ConvNeXt-T, on ADE20K; the backbone is mmpretrain's: pip install mmpretrain.

    fcn-plugin train fcn8s_convnext-t_ade20k

Weights, layer-wise learning rates and weight decay are those of mmseg's ConvNeXt-T + UPer. Not
run here yet.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/ade20k.py",
    "_base_/schedules/adamw_160k.py",
    "_base_/runtime.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    backbone=dict(
        _delete_=True,
        type="mmpretrain.ConvNeXt",
        arch="tiny",
        out_indices=(1, 2, 3),
        drop_path_rate=0.4,
        gap_before_final_norm=False,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmclassification/v0/convnext/downstream/"
            "convnext-tiny_3rdparty_32xb128-noema_in1k_20220301-795e9634.pth",
            prefix="backbone.",
        ),
    ),
    decode_head=dict(in_channels=(192, 384, 768), num_classes=150),
)
optim_wrapper = dict(
    constructor="LearningRateDecayOptimizerConstructor",
    optimizer=dict(lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True, decay_rate=0.9, decay_type="stage_wise", num_layers=6),
)
