"""Skip fusion on Swin-T, a hierarchical transformer, on ADE20K.

    fcn-plugin train fcn8s_swin-t_ade20k

The weights are those of mmseg's Swin-T + UPer. Not run here yet.
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
        type="SwinTransformer",
        out_indices=(1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/swin/"
            "swin_tiny_patch4_window7_224_20220317-1cdeb081.pth",
        ),
    ),
    decode_head=dict(in_channels=(192, 384, 768), num_classes=150),
)
