"""Skip fusion on ViT-B/16 with a neck that resizes its maps to strides 8, 16, 32, on ADE20K.

    fcn-plugin train fcn8s_vit-b16_ade20k

Weights and image normalisation are those of mmseg's Segmenter. Not run here yet.
"""

_base_ = [
    "_base_/models/fcn8s_vgg16.py",
    "_base_/datasets/ade20k.py",
    "_base_/schedules/adamw_160k.py",
    "_base_/runtime.py",
]
data_preprocessor = dict(size=(512, 512), mean=[127.5] * 3, std=[127.5] * 3)
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        _delete_=True,
        type="VisionTransformer",
        img_size=(512, 512),
        patch_size=16,
        out_indices=(3, 7, 11),
        final_norm=True,
        norm_cfg=dict(type="LN", eps=1e-6),
        drop_path_rate=0.1,
        interpolate_mode="bicubic",
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://download.openmmlab.com/mmsegmentation/v0.5/pretrain/segmenter/"
            "vit_base_p16_384_20220308-96dfe169.pth",
        ),
    ),
    neck=dict(
        type="MultiLevelNeck", in_channels=[768, 768, 768], out_channels=768, scales=[2, 1, 0.5]
    ),
    decode_head=dict(in_channels=(768, 768, 768), num_classes=150),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
