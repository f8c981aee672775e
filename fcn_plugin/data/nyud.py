"""NYUDv2: indoor scenes with depth, in the 40 classes of Gupta et al. (CVPR 2013)."""

from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from fcn_plugin.data.labels import voc_palette

# In the order of Caffe's data/nyud/classes.txt, which spells the 24th so.
NAMES = (
    *("wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf"),
    *("picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror"),
    *("floor mat", "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel"),
    *("shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp"),
    *("bathtub", "bag", "otherstructure", "otherfurniture", "otherprop"),
)
FIRST, LAST = 5001, 6449  # numbers of the images
# The images of two of the splits as bits, that of the first image first; the others are for train.
VAL = (
    "0f00fc00003fc03ffc0003fffffe00080fffe000080000000780007ffffff0001f8000ffc0001800003fff8001fff"
    "fc000fff8000003e00000060000000000080000e000380000003f80003c00ffe000f007800c000603f0007c007f80"
    "0000000003ffc0007e00000070007e0000000001fe001c0003ff8030000003e001fe0007000c07fff800001000fe0"
    "0038000007003001fc00001c0006000070000001e00030003ffe001f801fc0fffc0000f80001f0fe00"
)
TEST = (
    "1810f903fffcc037c003c3fc000001c1f790001c0077e3fffff87e03800000080020707f003f80e701ffc00067fe0"
    "0003f8700078000fc1fe000f9ff00000003f7ff871c01c7fffc07c07807c31f001f830c3863f3f0f99c0ff183e780"
    "60007ffffffc003e0f81c01fff8e1f81c00000000e01c0e3c01c0079cff0007c1e0e01c038c033180007fe3fefef0"
    "1c7fc603fff8fcce7e03e1ffe3e0f9c0078fff007e1ffdcfe0c001e7e071e0330003fcff07f81e0f01ff"
)


def published_lists() -> dict[str, list[str]]:
    """The images of Caffe's ``data/nyud/{train,val,test}.txt``, as names of files, and of trainval.

    >>> {name: len(images) for name, images in published_lists().items()}
    {'train': 381, 'val': 414, 'trainval': 795, 'test': 654}
    """
    numbers = range(FIRST, LAST + 1)
    val, test = (
        [
            f"img_{n}"
            for n, bit in zip(numbers, f"{int(bits, 16):0{len(numbers)}b}", strict=True)
            if bit == "1"
        ]
        for bits in (VAL, TEST)
    )
    train = [name for n in numbers if (name := f"img_{n}") not in {*val, *test}]
    return dict(train=train, val=val, trainval=sorted(train + val), test=test)


@DATASETS.register_module()
class NYUDv2Dataset(BaseSegDataset):
    """Images of NYUDv2 as ``fcn-plugin prepare_data nyud`` leaves them, 40 classes.

    Labels hold 1 to 40 for the classes and 0 for void. Depth and HHA lie beside the images and
    are read by ``LoadSideBySide``.

    Args:
        **kwargs: As for mmseg's ``BaseSegDataset``.
    """

    METAINFO = {"classes": NAMES, "palette": voc_palette()[1 : len(NAMES) + 1]}

    def __init__(
        self, img_suffix: str = ".png", reduce_zero_label: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(img_suffix=img_suffix, reduce_zero_label=reduce_zero_label, **kwargs)
