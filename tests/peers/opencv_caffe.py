"""Compares with OpenCV's reader of Caffe networks, on random weights.

    pip install 'opencv-python-headless<5'
    python tests/peers/opencv_caffe.py [--published CLONE] [--wrong-crop] [NET ...]

OpenCV 5 reads Caffe files no longer. The networks are those of tests/reference.py, written as
Caffe files; with a clone of https://github.com/shelhamer/fcn.berkeleyvision.org those that its
authors wrote, of full width, PASCAL-Context's 60 classes, NYUDv2's color, HHA and depth, and SIFT
Flow's two heads among them. Takes 6 GB of memory.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import networks
import reference
import torch
from comparison import Table
from torch import Tensor
from weights.caffe_files import write_caffemodel
from weights.caffe_text import CaffeFile

SIZES = [(2, (1, 1)), (2, (33, 200)), (1, (97, 131)), (1, (375, 500))]
# In single precision only, and the sums of up to 57 convolutions in another order.
TOLERANCE = 1e-5
# The channels of each input by its name, where it is not 3 of "data".
PHOTO = {"data": 3}
INPUTS = {
    "fcn32s-color-d": {"data": 4},
    "fcn32s-color-hha": {"data": 6},
    "nyud-fcn32s-color-d": {"color": 3, "depth": 1},
    "nyud-fcn32s-color-hha": {"color": 3, "hha": 3},
}
# Network of the reference and classes, by the name of what is compared.
WRITTEN = {net: (net, 21) for net in networks.NETS}
PUBLISHED = {
    **{
        f"voc-{net}": (net, 21)
        for net in networks.NETS
        if net.startswith("fcn") and "color" not in net
    },
    **{f"pascalcontext-{net}": (net, 60) for net in ("fcn32s", "fcn16s", "fcn8s")},
    **{net: (net, 33) for net in networks.NETS if net.startswith("siftflow")},
    "nyud-fcn32s-color": ("fcn32s", 40),
    "nyud-fcn32s-hha": ("fcn32s", 40),
    "nyud-fcn32s-color-d": ("fcn32s-color-d", 40),
    "nyud-fcn32s-color-hha": ("fcn32s-color-hha", 40),
}
del PUBLISHED["voc-fcn-googlenet"]  # was not released


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nets", nargs="*", metavar="NET", help="default: all")
    parser.add_argument("--published", type=Path, metavar="CLONE", help="the authors' own files")
    parser.add_argument(
        "--wrong-crop",
        action="store_true",
        help="the negative control: OpenCV moves each crop by one pixel, which each row must show",
    )
    args = parser.parse_args()
    known = PUBLISHED if args.published else WRITTEN
    if unknown := set(args.nets) - set(known):
        parser.error(f"no network {sorted(unknown)[0]!r}, must be of {list(known)}")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        parser.error(f"OpenCV {cv2.__version__} reads no Caffe files: opencv-python-headless<5")

    peer = f"OpenCV {cv2.__version__}" + " on the authors' files" * bool(args.published)
    table = Table(peer + " with wrong crops" * args.wrong_crop, args.wrong_crop)
    for name in args.nets or known:
        net, classes = known[name]
        torch.manual_seed(0)
        backbone, head = networks.build(net, full=True, classes=classes, dtype=torch.float32)
        inputs = INPUTS.get(name, PHOTO)
        weights = networks.parameters(net, backbone, head)
        file = CaffeFile(weights, sum(inputs.values()), start="")
        reference.write(net, file)
        text = published(args.published, name) if args.published else file.text
        if args.wrong_crop:
            text = re.sub(r"offset: (\d+)", lambda stated: f"offset: {int(stated[1]) + 1}", text)
        theirs = read(inputs_as_text(inputs) + text, file.blobs)
        for batch, size in SIZES:
            image = networks.pictures(batch, size, torch.float32, net)
            for part, channels in zip(inputs, image.split([*inputs.values()], 1), strict=True):
                theirs.setInput(channels.numpy().copy(), part)
            for task, each in networks.by_task(head).items():
                expected = torch.from_numpy(theirs.forward(f"score{task}"))
                with torch.no_grad():
                    found = each(backbone(image))
                table.add(f"{name}{task}", found, expected, TOLERANCE)
    return table.status


def inputs_as_text(inputs: dict[str, int]) -> str:
    """Of any size, each picture sets its own."""
    return "".join(
        f'input: "{name}"\ninput_shape {{ dim: 1 dim: {channels} dim: 64 dim: 64 }}\n'
        for name, channels in inputs.items()
    )


def published(clone: Path, name: str) -> str:
    """The authors' prototxt without its data and its loss."""
    split = "test" if name.startswith(("nyud", "siftflow")) else "val"
    text = (clone / name / f"{split}.prototxt").read_text()
    # Each up to the brace at the start of a line.
    layers = re.findall(r"^layer \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    kept = [layer for layer in layers if not re.search(r'type: "(Python|SoftmaxWithLoss)"', layer)]
    return "".join(kept)


def read(text: str, blobs: dict[str, list[Tensor]]):
    with tempfile.TemporaryDirectory() as folder:
        model, prototxt = Path(folder, "net.caffemodel"), Path(folder, "net.prototxt")
        prototxt.write_text(text)
        write_caffemodel(model, blobs)
        net = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    net.enableWinograd(False)  # exact sums instead of fast ones
    return net


if __name__ == "__main__":
    sys.exit(main())
