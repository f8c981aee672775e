"""Where published weights come from, and what input they expect: their passports."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One published file.

    Attributes:
        url: its first digits of sha256 stand at the end of the file's name.
        mean, std: of the input in 0-255 that the weights were trained on, in ``channel_order``.
    """

    url: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channel_order: str
    licence: str

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    @property
    def sha256(self) -> str:
        """The first digits."""
        return self.file_name.rsplit(".", 1)[0].rsplit("-", 1)[-1]


def _torchvision(file_name: str) -> Source:
    return Source(
        url=f"https://download.pytorch.org/models/{file_name}",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        channel_order="RGB",
        licence="BSD-3-Clause",
    )


# By the names that init_cfg's checkpoint takes.
SOURCES = {
    "torchvision://vgg11": _torchvision("vgg11-8a719046.pth"),
    "torchvision://vgg13": _torchvision("vgg13-19584684.pth"),
    "torchvision://vgg16": _torchvision("vgg16-397923af.pth"),
    "torchvision://vgg19": _torchvision("vgg19-dcbb9e9d.pth"),
    "torchvision://vgg11_bn": _torchvision("vgg11_bn-6002323d.pth"),
    "torchvision://vgg13_bn": _torchvision("vgg13_bn-abd245e5.pth"),
    "torchvision://vgg16_bn": _torchvision("vgg16_bn-6c64b313.pth"),
    "torchvision://vgg19_bn": _torchvision("vgg19_bn-c79401a0.pth"),
}
