"""FCN-8s on VGG16 with torchvision's ImageNet weights, without the reference's padding."""

# By this name mmseg's visualization_cam.py looks for it.
data_preprocessor = dict(
    type="SegDataPreProcessor",
    # Normalisation that the ImageNet weights were trained with.
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type="FCNSegmentor",
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type="ConvolutionalizedVGG",
        depth=16,
        padding="same",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://vgg16"),
    ),
    decode_head=dict(
        type="SkipFusionHead",
        in_channels=(256, 512, 4096),  # pool3, pool4, fc7
        in_index=(0, 1, 2),
        num_classes=21,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
