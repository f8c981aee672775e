"""Skip fusion on MSCAN-T, SegNeXt's encoder of large convolutions, on ADE20K.

    fcn-plugin train fcn8s_mscan-t_ade20k

The weights are those of mmseg's SegNeXt-T. Not run here yet.
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
        type="MSCAN",
        embed_dims=[32, 64, 160, 256],
        depths=[3, 3, 5, 2],
        drop_path_rate=0.1,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segnext/"
            "mscan_t_20230227-119e8c9f.pth",
        ),
    ),
    # MSCAN also returns the level at stride 4, which has index 0.
    decode_head=dict(in_channels=(64, 160, 256), in_index=(1, 2, 3), num_classes=150),
)
# The new head learns at ten times the rate, as in mmseg.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))))
