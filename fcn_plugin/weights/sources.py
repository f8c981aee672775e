"""Tables of the published weight files: URL, hash and expected input."""

from dataclasses import dataclass
from typing import Any

from fcn_plugin.system.download import Digest

BANDS = "bands"
ORDERS = ("RGB", "BGR", BANDS)


@dataclass(frozen=True)
class Input:
    """The input that a network was trained on: (values in 0-255 - mean) / std.

    Attributes:
        order: of the channels, of mean and of std: 'RGB' or 'BGR'; or ``BANDS``, the order of the
            files, whose values may be of any range.
    """

    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def stored(cls, meta: Any) -> "Input | None":
        """The input in a checkpoint's meta data; None if there is none in our form."""
        value = meta.get("input") if isinstance(meta, dict) else None
        if not isinstance(value, dict) or set(value) != {"order", "mean", "std"}:
            return None
        return cls(value["order"], tuple(value["mean"]), tuple(value["std"]))

    def preprocessor(self) -> dict:
        """Settings of mmseg's ``SegDataPreProcessor``, which gets images as BGR, or of ours."""
        settings = dict(mean=list(self.mean), std=list(self.std))
        return settings if self.order == BANDS else settings | {"bgr_to_rgb": self.order == "RGB"}


def _bgr(*mean: float) -> Input:
    return Input("BGR", mean, (1.0, 1.0, 1.0))


# torchvision's from its documentation; the others from the publishers' Caffe readmes and code.
TORCHVISION = Input("RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
INCEPTION = Input("RGB", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))  # to [-1, 1]
FEATURES_ONLY = Input("RGB", (0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0, 1.0, 1.0))
# TensorFlow's efficientnet_lite_builder.py; timm has 127.5 and 127.5.
EFFICIENTNET_LITE = Input("RGB", (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))
CAFFE_VGG = _bgr(103.939, 116.779, 123.68)
CAFFE_VGG_RGB = Input("RGB", CAFFE_VGG.mean[::-1], CAFFE_VGG.std)  # its first kernel turned
CAFFENET = _bgr(104.007, 116.669, 122.679)
CAFFE_GOOGLENET = _bgr(104.0, 117.0, 123.0)
VOC = _bgr(104.00699, 116.66877, 122.67892)
PASCAL_CONTEXT = _bgr(104.007, 116.669, 122.679)
SIFT_FLOW = _bgr(114.578, 115.294, 108.353)

_COLOR, _LOG_DEPTH, _HHA = (116.190, 97.203, 92.318), (7.844,), (132.431, 94.076, 118.477)


def _bands(*mean: float) -> Input:
    return Input(BANDS, mean, (1.0,) * len(mean))


# Caffe nyud_layers.py: color is BGR, HHA in the order of its files, depth a logarithm.
NYUD = {
    "nyud-color": _bgr(*_COLOR),
    "nyud-hha": Input("RGB", _HHA, (1.0, 1.0, 1.0)),
    "nyud-color-d": _bands(*_COLOR, *_LOG_DEPTH),
    "nyud-color-hha": _bands(*_COLOR, *_HHA),
}


@dataclass(frozen=True)
class Source:
    """One published file.

    Attributes:
        at_once: True for fcn8s-atonce, if the file itself does not say so.
        licence: as its publisher states it; empty if unknown.
    """

    file_name: str
    digest: Digest
    input: Input
    url: str = ""
    at_once: bool = False
    licence: str = ""


def _named_by_hash(url: str, input: Input, licence: str) -> Source:
    """A file whose name ends with the first digits of its sha256."""
    file_name = url.rsplit("/", 1)[-1]
    digits = file_name.rsplit(".", 1)[0].rsplit("-", 1)[-1]
    return Source(file_name, Digest("sha256", digits), input, url, licence=licence)


def _torchvision(file_name: str, input: Input = TORCHVISION) -> Source:
    url = f"https://download.pytorch.org/models/{file_name}"
    return _named_by_hash(url, input, "BSD-3-Clause")


def _caffe(url: str, sha1: str, input: Input, licence: str = "") -> Source:
    return Source(url.rsplit("/", 1)[-1], Digest("sha1", sha1), input, url, licence=licence)


BERKELEY = "http://dl.caffe.berkeleyvision.org"

UNRESTRICTED = "unrestricted use"

# ImageNet classifiers, by their names in init_cfg.checkpoint.
SOURCES = {
    "torchvision://vgg11": _torchvision("vgg11-8a719046.pth"),
    "torchvision://vgg13": _torchvision("vgg13-19584684.pth"),
    "torchvision://vgg16": _torchvision("vgg16-397923af.pth"),
    "torchvision://vgg19": _torchvision("vgg19-dcbb9e9d.pth"),
    "torchvision://vgg11_bn": _torchvision("vgg11_bn-6002323d.pth"),
    "torchvision://vgg13_bn": _torchvision("vgg13_bn-abd245e5.pth"),
    "torchvision://vgg16_bn": _torchvision("vgg16_bn-6c64b313.pth"),
    "torchvision://vgg19_bn": _torchvision("vgg19_bn-c79401a0.pth"),
    "torchvision://vgg16_features": _torchvision(
        "vgg16_features-amdegroot-88682ab5.pth", FEATURES_ONLY
    ),
    "torchvision://alexnet": _torchvision("alexnet-owt-7be5be79.pth"),
    "torchvision://googlenet": _torchvision("googlenet-1378be20.pth", INCEPTION),
    "justincj://vgg16": _named_by_hash(
        "https://web.eecs.umich.edu/~justincj/models/vgg16-00b39a1b.pth", CAFFE_VGG, "CC-BY-4.0"
    ),
    "caffe://vgg16": _caffe(
        "https://www.robots.ox.ac.uk/~vgg/software/very_deep/caffe/VGG_ILSVRC_16_layers.caffemodel",
        "9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24",
        CAFFE_VGG,
        "CC-BY-4.0",
    ),
    "caffe://caffenet": _caffe(
        f"{BERKELEY}/bvlc_reference_caffenet.caffemodel",
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        CAFFENET,
        UNRESTRICTED,
    ),
    "caffe://googlenet": _caffe(
        f"{BERKELEY}/bvlc_googlenet.caffemodel",
        "405fc5acd08a3bb12de8ee5e23a96bec22f08204",
        CAFFE_GOOGLENET,
        UNRESTRICTED,
    ),
}


def _fcn_caffe(net: str, sha1: str) -> Source:
    return _caffe(f"{BERKELEY}/{net}-heavy-pascal.caffemodel", sha1, VOC)


def _pytorch_fcn(net: str, md5: str) -> Source:
    name = f"{net}_from_caffe.pth"
    return Source(name, Digest("md5", md5), VOC, at_once="atonce" in net)


def _chainer(net: str, md5: str, input: Input = VOC) -> Source:
    name = f"{net}_from_caffe.npz"
    return Source(name, Digest("md5", md5), input, at_once="atonce" in net)


def _keras(name: str, md5: str) -> Source:
    file_name = f"{name}.h5"
    url = f"https://github.com/fchollet/deep-learning-models/releases/download/v0.1/{file_name}"
    return Source(file_name, Digest("md5", md5), CAFFE_VGG, url, licence="CC-BY-4.0")


def _matconvnet(depth: int, md5: str, folder: str = "") -> Source:
    file_name = f"imagenet-vgg-verydeep-{depth}.mat"
    url = f"https://www.vlfeat.org/matconvnet/models/{folder}{file_name}"
    return Source(file_name, Digest("md5", md5), CAFFE_VGG_RGB, url, licence="CC-BY-4.0")


# All published files whose hashes we know; the licences of the segmentation networks are unknown.
# Chainer's hashes are in wkentaro/fcn's code, Keras' in keras-applications, MatConvNet's in its
# documentation (pretrained.md), that of beta16 in anishathalye/neural-style.
KNOWN = (
    *SOURCES.values(),
    _fcn_caffe("fcn8s", "c449ea74dd7d83751d1357d6a8c323fcf4038962"),
    _fcn_caffe("fcn32s", "05eb922d7829c39448f57e5ab9d8cd75d6c0be6d"),
    _pytorch_fcn("fcn32s", "d3eb467a80e7da0468a20dfcbc13e6c8"),
    _pytorch_fcn("fcn16s", "a2d4035f669f09483b39c9a14a0d6670"),
    _pytorch_fcn("fcn8s", "de93e540ec79512f8770033849c8ae89"),
    _pytorch_fcn("fcn8s-atonce", "bfed4437e941fef58932891217fe6464"),
    _torchvision("fcn_resnet50_coco-1167a1af.pth"),
    _torchvision("fcn_resnet101_coco-7ecb50ca.pth"),
    _chainer("vgg16", "54a0cddc1392ccc4056bbeecbb30f3d4", CAFFE_VGG),
    _chainer("fcn32s", "b7f0a2e66229ccdb099c0a60b432e8cf"),
    _chainer("fcn16s", "7c9b50a1a8c6c20d3855d4823bbea61e"),
    _chainer("fcn8s", "256c2a8235c1c65e62e48d3284fbd384"),
    _chainer("fcn8s-atonce", "5f3ffdc7fae1066606e1ef45cfda548f"),
    _keras("vgg16_weights_tf_dim_ordering_tf_kernels", "64373286793e3c8b2b4e3219cbf3544b"),
    _keras("vgg16_weights_tf_dim_ordering_tf_kernels_notop", "6d6bbae143d832006294945121d1f1fc"),
    _keras("vgg19_weights_tf_dim_ordering_tf_kernels", "cbe5617147190e668d6c5d5026f83318"),
    _keras("vgg19_weights_tf_dim_ordering_tf_kernels_notop", "253f8cb515780f3b799900260a226db6"),
    _matconvnet(16, "f72d927587ca4c97fbd165ec9cb9997f"),
    _matconvnet(19, "106118b7cf60435e6d8e04f6a6dc3657"),
    _matconvnet(19, "8ee3263992981a1d26e73b3ca028a123", "beta16/"),
)
