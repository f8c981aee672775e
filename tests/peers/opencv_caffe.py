"""Compares with OpenCV's reader of Caffe networks, on random weights.

    pip install 'opencv-python-headless<5'
    python tests/peers/opencv_caffe.py [--published CLONE] [NET ...]

OpenCV 5 reads Caffe files no longer. The networks are those of tests/reference.py, written as
Caffe files; with a clone of https://github.com/shelhamer/fcn.berkeleyvision.org those that its
authors wrote, of full width, PASCAL-Context's 60 classes and SIFT Flow's two heads among them.
Takes 6 GB of memory.
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

SIZES = [(2, (1, 1)), (2, (33, 200)), (1, (97, 131)), (1, (375, 500))]
# In single precision only, and the sums of up to 57 convolutions in another order.
TOLERANCE = 1e-5
# Of any size, each picture sets its own.
INPUT = 'input: "data"\ninput_shape { dim: 1 dim: 3 dim: 64 dim: 64 }\n'
# Network of the reference and classes, by the name of what is compared.
WRITTEN = {net: (net, 21) for net in networks.NETS}
PUBLISHED = {
    **{f"voc-{net}": (net, 21) for net in networks.NETS if net.startswith("fcn")},
    **{f"pascalcontext-{net}": (net, 60) for net in ("fcn32s", "fcn16s", "fcn8s")},
    **{net: (net, 33) for net in networks.NETS if net.startswith("siftflow")},
}
del PUBLISHED["voc-fcn-googlenet"]  # was not released


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("nets", nargs="*", metavar="NET", help="default: all")
    parser.add_argument("--published", type=Path, metavar="CLONE", help="the authors' own files")
    args = parser.parse_args()
    known = PUBLISHED if args.published else WRITTEN
    if unknown := set(args.nets) - set(known):
        parser.error(f"no network {sorted(unknown)[0]!r}, must be of {list(known)}")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        parser.error(f"OpenCV {cv2.__version__} reads no Caffe files: opencv-python-headless<5")

    table = Table(f"OpenCV {cv2.__version__}" + " on the authors' files" * bool(args.published))
    for name in args.nets or known:
        net, classes = known[name]
        torch.manual_seed(0)
        backbone, head = networks.build(net, full=True, classes=classes, dtype=torch.float32)
        file = CaffeFile(networks.parameters(net, backbone, head))
        reference.write(net, file)
        text = published(args.published, name) if args.published else file.text
        theirs = read(text, file.blobs)
        for batch, size in SIZES:
            image = networks.pictures(batch, size, torch.float32)
            theirs.setInput(image.numpy(), "data")
            for task, each in networks.by_task(head).items():
                expected = torch.from_numpy(theirs.forward(f"score{task}"))
                with torch.no_grad():
                    found = each(backbone(image))
                table.add(f"{name}{task}", found, expected, TOLERANCE)
    return table.status


class CaffeFile(reference.Layers):
    """A network of the reference, as the text of a prototxt and the blobs of a caffemodel."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights
        self.mistake = ""
        self.text = INPUT
        self.blobs: dict[str, list[Tensor]] = {}

    def layer(self, kind: str, bottoms: list[str], name: str, setting: str = "", **values) -> str:
        bottom = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        inner = " ".join(f"{key}: {value}" for key, value in values.items())
        self.text += f'layer {{ name: "{name}" type: "{kind}" {bottom} top: "{name}" '
        self.text += f"{setting} {{ {inner} }} }}\n" if setting else "}\n"
        return name

    def conv(self, bottom, name, relu=True, stride=1, padding=0, groups=1):
        weight = self.weights[f"{name}.weight"]
        self.blobs[name] = [weight, self.weights[f"{name}.bias"]]
        kernel = dict(num_output=len(weight), kernel_size=weight.shape[2], group=groups)
        window = dict(kernel, stride=stride, pad=padding)
        self.layer("Convolution", [bottom], name, "convolution_param", **window)
        if relu:
            self.text += f'layer {{ name: "relu_{name}" type: "ReLU" '
            self.text += f'bottom: "{name}" top: "{name}" }}\n'
        return name

    def pool(self, bottom, name, kernel, stride=2, padding=0):
        window = dict(pool="MAX", kernel_size=kernel, stride=stride, pad=padding)
        return self.layer("Pooling", [bottom], name, "pooling_param", **window)

    def norm(self, bottom, name):
        settings = dict(local_size=5, alpha=0.0001, beta=0.75)
        return self.layer("LRN", [bottom], name, "lrn_param", **settings)

    def concat(self, bottoms, name):
        return self.layer("Concat", bottoms, name)

    def scale(self, bottom, name, factor):
        channels = self.weights[f"score_{bottom}.weight"].shape[1]
        self.blobs[name] = [torch.full((channels,), factor)]
        return self.layer("Scale", [bottom], name)

    def upscore(self, bottom, name, kernel, stride):
        task = next(task for task in (*networks.SIFTFLOW, "") if name.endswith(task))
        classes = len(self.weights[f"score_fr{task}.bias"])
        # A transposed convolution of single ones is its kernel.
        ones = torch.eye(classes)[..., None, None]
        self.blobs[name] = [reference.upscore(ones, kernel, stride)]
        window = dict(num_output=classes, bias_term="false", kernel_size=kernel, stride=stride)
        return self.layer("Deconvolution", [bottom], name, "convolution_param", **window)

    def crop(self, bottom, like, name, offset):
        return self.layer("Crop", [bottom, like], name, "crop_param", axis=2, offset=offset)

    def sum(self, first, second, name):
        return self.layer("Eltwise", [first, second], name, "eltwise_param", operation="SUM")


def published(clone: Path, name: str) -> str:
    """The authors' prototxt, with an input in place of its data and without its loss."""
    file = "test.prototxt" if name.startswith("siftflow") else "val.prototxt"
    text = (clone / name / file).read_text()
    # Each up to the brace at the start of a line.
    layers = re.findall(r"^layer \{\n.*?^\}\n", text, re.MULTILINE | re.DOTALL)
    kept = [layer for layer in layers if not re.search(r'type: "(Python|SoftmaxWithLoss)"', layer)]
    return INPUT + "".join(kept)


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
