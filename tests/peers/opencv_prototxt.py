"""Compares what --prototxt makes of a caffemodel with OpenCV's reader of Caffe networks.

    pip install 'opencv-python-headless<5'
    python tests/peers/opencv_prototxt.py [--clone CLONE] [--variants N]

OpenCV 5 reads Caffe files no longer. Of N networks drawn at random, whose classes, names, widths,
levels, kernels and padding are nobody's, and of the prototxts in a clone of
https://github.com/shelhamer/fcn.berkeleyvision.org, made narrow; those of several tasks or streams
are refused.
"""

import argparse
import random
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import cv2
import mmengine
import torch
from comparison import Table
from mmseg.apis import init_model
from torch import Tensor
from weights.caffe_files import write_caffemodel
from weights.caffe_text import INPUT, CaffeFile, Variant
from weights.published import bilinear

import fcn_plugin  # noqa: F401  # registers our modules
from fcn_plugin.conversion.caffe.described import DescribedConversion
from fcn_plugin.errors import UserError

SIZES = [(64, 64), (45, 130), (97, 131)]
TOLERANCE = 1e-5  # in single precision
NARROW = {64: 4, 128: 8, 256: 16, 512: 32, 4096: 24}
NARROW_ALEXNET = {96: 12, 256: 32, 384: 48, 4096: 24}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clone", type=Path, help="with the authors' own prototxts")
    parser.add_argument("--variants", type=int, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        parser.error(f"OpenCV {cv2.__version__} reads no Caffe files: opencv-python-headless<5")
    torch.manual_seed(args.seed)
    table = Table(f"OpenCV {cv2.__version__}")
    draw = random.Random(args.seed)
    for number in range(args.variants):
        variant = Variant.drawn(draw)
        file = CaffeFile(variant.weights(torch.Generator().manual_seed(number)), variant.channels)
        variant.write(file)
        compare(table, f"variant {number}", file.text, file.blobs, variant.channels)
    for path in sorted(args.clone.glob("*/*.prototxt")) if args.clone else ():
        if path.name == "solver.prototxt":
            continue
        name = str(path.relative_to(args.clone).with_suffix(""))
        text, blobs = narrow(path.read_text())
        compare(table, name, text, blobs, 4 if "color-d/" in name else 3)
    return table.status


def narrow(text: str) -> tuple[str, dict[str, list[Tensor]]]:
    """A prototxt of the authors with fewer channels, and random blobs."""
    table = NARROW_ALEXNET if '"conv5"' in text else NARROW
    for wide, less in table.items():
        text = text.replace(f"num_output: {wide}\n", f"num_output: {less}\n")
    # Each up to the brace at the start of a line.
    layers = re.findall(r"^layer \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    blobs: dict[str, list[Tensor]] = {}
    channels = {"data": 3, "color": 3, "hha": 3, "depth": 1}
    for layer in layers:
        name, kind = (re.search(rf'{key}: "(\w+)"', layer)[1] for key in ("name", "type"))
        bottoms, tops = (re.findall(rf'{key}: "(\w+)"', layer) for key in ("bottom", "top"))
        inputs = [channels.get(bottom, 0) for bottom in bottoms]
        numbers = dict(re.findall(r"(num_output|kernel_size|group): (\d+)", layer))
        outputs, side = (int(numbers.get(key, 0)) for key in ("num_output", "kernel_size"))
        if kind == "Convolution":
            shape = outputs, inputs[0] // int(numbers.get("group", 1)), side, side
            weight = torch.randn(shape) * (2 / (shape[1] * side * side)) ** 0.5
            blobs[name] = [weight, torch.randn(outputs)]
        elif kind == "Deconvolution":
            blobs[name] = [torch.from_numpy(bilinear(int(outputs), side))]
        elif kind == "Scale":
            value = float(re.search(r"value: ([\d.]+)", layer)[1])
            blobs[name] = [torch.full((inputs[0],), value)]
        if bottoms:
            width = sum(inputs) if kind == "Concat" else inputs[0]
            channels[tops[0]] = outputs or width
    return text, blobs


def compare(table: Table, name: str, text: str, blobs: dict[str, list], channels: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model, prototxt = Path(folder, "net.caffemodel"), Path(folder, "net.prototxt")
        write_caffemodel(model, blobs)
        prototxt.write_text(text)
        try:
            config = DescribedConversion(model, prototxt).write(Path(folder, "out.pth"))
        except UserError as error:
            print(f"{name:<32}refused: {str(error).removeprefix(f'{prototxt}: ')}")
            return
        ours = init_model(mmengine.Config.fromfile(config), f"{folder}/out.pth", device="cpu")
        prototxt.write_text(for_opencv(text, channels))
        theirs = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    theirs.enableWinograd(False)  # exact sums instead of fast ones
    for size in SIZES:
        image = torch.rand(1, channels, *size) * 255 - 115
        theirs.setInput(image.numpy(), "data")
        expected = torch.from_numpy(theirs.forward("score"))
        with torch.no_grad():
            table.add(name, ours(image, mode="tensor"), expected, TOLERANCE)


def for_opencv(text: str, channels: int) -> str:
    """With an input in place of the data layers, and without the loss."""
    if "input:" in text:
        return text
    layers = re.findall(r"^layer \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    others = r'type: "(Python|Input|SoftmaxWithLoss)"|name: "data"'
    return INPUT.format(channels) + "".join(
        layer for layer in layers if not re.search(others, layer)
    )


if __name__ == "__main__":
    sys.exit(main())
