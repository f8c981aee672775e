"""Heads of mmseg on the convolutionalized backbones, with settings from mmseg's configs.

A head of one level takes the deepest convolutional level, before fc6 and fc7, which the context
modules of such heads, like PSP or ASPP, replace.
"""

from typing import Any, NamedTuple

from pairing.pair import ALL, CLASSES, FINEST, Pair, mmseg_model

# The levels at strides 4, 8, 16 and 32; AlexNet begins at 8.
BACKBONES = {
    "ConvolutionalizedVGG": dict(depth=16, out_indices=(1, 2, 3, 4)),
    "ConvolutionalizedAlexNet": dict(out_indices=(0, 1, 2)),
    "ConvolutionalizedGoogLeNet": dict(out_indices=(0, 1, 2, 4)),
}
SMALL_BACKBONES = {
    "ConvolutionalizedVGG": dict(depth=11, base_channels=4),
    "ConvolutionalizedAlexNet": dict(base_channels=4),
    "ConvolutionalizedGoogLeNet": dict(base_channels=8),
}


class Head(NamedTuple):
    """A ``Pair`` without backbone: a head of mmseg, or a cascade of heads."""

    name: str
    model: dict[str, Any]
    small: dict[str, Any]
    needs: str = ""

    def on(self, backbone: str) -> Pair:
        model = dict(backbone=dict(type=backbone, **BACKBONES[backbone]), **self.model)
        small = dict(backbone=SMALL_BACKBONES[backbone], **self.small)
        return Pair(self.name, model, small, needs=self.needs)


def fitted(node: Any) -> Any:
    """A part of mmseg's config for our backbones; ``in_index`` counts from the deepest of 4."""
    if isinstance(node, list | tuple):
        return type(node)(fitted(part) for part in node)
    if not isinstance(node, dict):
        return node
    fit = {key: fitted(value) for key, value in node.items()}
    if "channels" in fit or fit.get("type") == "FPN":
        fit.pop("in_channels")
    if "channels" in fit:  # of a head
        index = fit.get("in_index", 3)
        if isinstance(index, int):
            fit["in_index"] = index - 4
        else:
            fit["in_index"] = ALL if len(index) == 4 else [i - 4 for i in index]
    if "c1_in_channels" in fit:
        fit["c1_in_channels"] = FINEST
    if "num_classes" in fit:
        fit["num_classes"] = CLASSES
    return fit


def parts(config: str) -> dict[str, Any]:
    """The neck and heads of one of mmseg's configs."""
    kept = ("neck", "decode_head", "auxiliary_head", "train_cfg", "test_cfg")
    return {key: fitted(part) for key, part in mmseg_model(config).items() if key in kept}


FCN = parts("fcn_r50-d8")


def head(name: str, config: str, needs: str = "", small: Any = (), **settings: Any) -> Head:
    """The decode head of ``config``, and mmseg's auxiliary FCN head one level before."""
    model = dict(FCN, decode_head=parts(config)["decode_head"] | settings)
    narrow = dict(channels=16, **dict(small))
    return Head(name, model, dict(decode_head=narrow, auxiliary_head=dict(channels=8)), needs)


OCR = parts("ocrnet_r50-d8")
OCR["decode_head"][0]["in_index"] = -1  # both heads need maps of one size
STDC = parts("stdc")["auxiliary_head"][2]
KNET = "knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512"
SEGNEXT = "segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512"
NARROW = dict(channels=8)
SMALL_NECK = dict(neck=dict(out_channels=8))
TRANSFORMER = dict(embed_dims=16, num_heads=2)
BOTH = {"0": NARROW, "1": NARROW}
SMALL_OCR = {"0": NARROW, "1": dict(channels=16, ocr_channels=8)}
SMALL_KERNELS = dict(
    in_channels=16,
    out_channels=16,
    feedforward_channels=64,
    kernel_updator_cfg=dict(in_channels=8, feat_channels=8, out_channels=8),
)
SMALL_KNET = dict(
    kernel_update_head=dict.fromkeys("012", SMALL_KERNELS),
    kernel_generate_head=dict(channels=16),
)

HEADS = [
    head("FCN", "fcn_r50-d8"),
    head("FCN, depthwise separable", "fcn_r50-d8", type="DepthwiseSeparableFCNHead"),
    head("PSP", "pspnet_r50-d8"),
    head("ASPP (DeepLabV3)", "deeplabv3_r50-d8"),
    head("separable ASPP (DeepLabV3+)", "deeplabv3plus_r50-d8"),
    head("ANN", "ann_r50-d8"),
    head("APC", "apcnet_r50-d8"),
    head("CC", "ccnet_r50-d8"),
    head("DA", "danet_r50-d8"),
    head("NL", "nonlocal_r50-d8"),
    head("DNL", "dnl_r50-d8"),
    head("EMA", "emanet_r50-d8", small=dict(ema_channels=16)),
    head("Enc", "encnet_r50-d8"),
    head("GC", "gcnet_r50-d8"),
    head("ISA", "isanet_r50-d8", small=dict(isa_channels=8)),
    head("PSA", "psanet_r50-d8", needs="mmcv"),
    head("SETR, progressive", "setr_pup"),
    head("Segmenter's mask transformer", "segmenter_vit-b16_mask", small=TRANSFORMER),
    head("UPer", "upernet_r50"),
    head("SegFormer", "segformer_mit-b0"),
    head(
        "Hamburger (SegNeXt)",
        SEGNEXT,
        small=dict(ham_channels=16, norm_cfg=dict(num_groups=4)),
        ham_kwargs=dict(MD_R=16, rand_init=False),  # otherwise outputs are random
    ),
    Head("FPN, with its neck", parts("fpn_r50"), dict(SMALL_NECK, decode_head=NARROW)),
    Head("OCR behind FCN, in a cascade", OCR, dict(decode_head=SMALL_OCR)),
    Head("PointRend behind FPN", parts("pointrend_r50"), dict(SMALL_NECK, decode_head=BOTH)),
    Head("K-Net behind FCN", parts(KNET), dict(decode_head=SMALL_KNET, auxiliary_head=NARROW)),
    Head(
        "FCN, with STDC's boundary head",
        dict(FCN, auxiliary_head=STDC | dict(in_index=0, num_classes=2, align_corners=False)),
        dict(decode_head=NARROW, auxiliary_head=NARROW),
    ),
]

# Heads of mmseg that do not take these levels, and why.
OTHERS = {
    "DM": "wants plain memory (NCHW), ours is channels-last",
    "DDR, PID": "take the branches of their own backbone, two or three in training, one after it",
    "DPT": "takes the tokens of a ViT, class token included",
    "LRASPP": "averages 49 x 49 pixels of its deepest level, more than there are at stride 32",
    "MaskFormer, Mask2Former": "are mmdet's; not tried",
    "SETR, MLA": "joins levels of one size, those of a ViT",
    "SideAdapterCLIP": "takes an image and the texts of CLIP",
    "VPDDepth": "estimates depth, not classes",
}
