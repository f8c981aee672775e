"""Narrow segmentors to export: of the package's parts and of mmseg's."""

from models.small import built

SIZES = ((97, 161), (256, 320), (50, 41))
BGR = dict(mean=[104.0, 117.0, 123.0], std=[50.0, 55.0, 60.0], bgr_to_rgb=False)
RGB = dict(mean=[124.0, 116.0, 104.0], std=[58.0, 57.0, 57.5], bgr_to_rgb=True)
CLASSES = ("void", "sky", "road", "tree", "bicyclist")


def segmentor(padding="same", upsample="bilinear", backbone=None, head=None, **preprocessor):
    """Pool3 and fc7 of a narrow VGG-11, or others."""
    skips = dict(in_channels=(16, 8), in_index=(0, 1), strides=(8, 32), upsample=upsample)
    start = dict(init_cfg=dict(type="Normal", layer="Conv2d", std=0.1))
    model = built(
        padding,
        backbone or dict(out_indices=(2, 5)),
        head if "type" in (head or ()) else skips | start | (head or {}),
        data_preprocessor=dict(type="SegDataPreProcessor", **(RGB | preprocessor)),
    )
    model.init_weights()
    model.dataset_meta = dict(classes=CLASSES, palette=[[i, 2 * i, 3 * i] for i in range(5)])
    return model.eval()


def of_mmseg(kind: str, **settings) -> dict:
    """A head of mmseg on fc7."""
    common = dict(in_channels=8, in_index=1, channels=8, num_classes=5, norm_cfg=dict(type="BN"))
    return dict(head=dict(type=kind, **common, **settings))


# Fewer layers, on which it takes torch less time to reason about sizes.
POOLS = dict(
    backbone=dict(type="ConvolutionalizedVGG", depth=11, out_indices=(1, 2), base_channels=4),
    head=dict(in_channels=(8, 16), strides=(4, 8)),
)
NETWORKS = {
    "bilinear-reference": dict(padding="reference", **BGR),
    "deconv-same": dict(upsample="deconv"),
    "conv2d_transpose": dict(upsample="conv2d_transpose", **POOLS),
    "nearest-reference": dict(
        upsample="nearest", padding="reference", test_cfg=dict(size_divisor=32)
    ),
    "alexnet": dict(
        backbone=dict(type="ConvolutionalizedAlexNet", base_channels=4, fc_channels=8),
        head=dict(
            in_channels=(12, 32, 8), in_index=(0, 1, 2), strides=(8, 16, 32), kernels=(15, 3, 3)
        ),
        upsample="deconv",
    ),
    "googlenet-reference": dict(
        backbone=dict(type="ConvolutionalizedGoogLeNet", base_channels=8, padding="reference"),
        head=dict(in_channels=(128,), in_index=(2,), strides=(32,)),
    ),
    "unpooling": dict(
        backbone=dict(
            type="ConvolutionalizedVGG", depth=11, base_channels=4, out_indices=(4,), switches=True
        ),
        head=dict(
            type="UnpoolingHead", depth=11, in_channels=32, num_classes=5, norm_cfg=dict(type="BN")
        ),
    ),
    "psp": of_mmseg("PSPHead", pool_scales=(1, 2, 3, 6)),
    # Its resizing torch can follow only by reading mmseg's code.
    "aligned": of_mmseg("FCNHead", align_corners=True),
}
