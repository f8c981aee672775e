"""FCN-8s on VGG16 as published (Caffe voc-fcn8s/net.py): padding, input, loss, ImageNet weights."""

model = dict(
    type="FCNSegmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        # BGR, 0-255, the mean subtracted; every image at its own size.
        mean=[104.00699, 116.66877, 122.67892],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        size_divisor=1,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type="ConvolutionalizedVGG",
        depth=16,
        padding="reference",
        init_cfg=dict(type="Pretrained", checkpoint="caffe://vgg16"),
    ),
    decode_head=dict(
        type="SkipFusionHead",
        in_channels=(256, 512, 4096),  # pool3, pool4, fc7
        in_index=(0, 1, 2),
        num_classes=21,
        # Summed over the labelled pixels: a large image counts more than a small one.
        loss_decode=dict(type="CrossEntropyLoss", reduction="sum"),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
