"""Compares with https://github.com/wkentaro/pytorch-fcn, at full width, on random weights.

    python tests/peers/pytorch_fcn.py PATH_TO_CLONE

Its networks are written independently of ours. Nothing of it is needed but torchfcn/models. Takes
6 GB of memory.
"""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parents[1]))

import networks
import torch
from comparison import Table
from torch import nn

CLASSES = {
    "fcn32s": ("fcn32s", "FCN32s"),
    "fcn16s": ("fcn16s", "FCN16s"),
    "fcn8s": ("fcn8s", "FCN8s"),
    "fcn8s-atonce": ("fcn8s", "FCN8sAtOnce"),
}
SIZES = [(2, (1, 1)), (2, (33, 200)), (1, (97, 131)), (1, (375, 500))]
# As in tests/models/test_parity.py.
PRECISIONS = {torch.float32: 1e-5, torch.float64: 1e-10}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=Path, help="a clone of wkentaro/pytorch-fcn")
    clone = parser.parse_args().clone
    table = Table("pytorch-fcn")
    for net in CLASSES:
        for dtype, tolerance in PRECISIONS.items():
            torch.manual_seed(0)
            backbone, head = networks.build(net, full=True, classes=21, dtype=dtype)
            theirs = peer(clone, net).to(dtype).eval()
            load(theirs, networks.parameters(net, backbone, head))
            for batch, size in SIZES:
                image = networks.pictures(batch, size, dtype)
                with torch.no_grad():
                    table.add(net, head(backbone(image)), theirs(image), tolerance)
    return table.status


def peer(clone: Path, net: str) -> nn.Module:
    """Without the packages around the models: they download, plot and read data sets."""
    sys.modules["fcn"] = ModuleType("fcn")  # only for downloads
    package = ModuleType("torchfcn_models")
    package.__path__ = [str(clone / "torchfcn" / "models")]
    sys.modules[package.__name__] = package
    module, name = CLASSES[net]
    return getattr(importlib.import_module(f"{package.__name__}.{module}"), name)(n_class=21)


def load(theirs: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """All but its upsampling layers, which are made bilinear when they are built."""
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith("upscore") for name in missing), missing


if __name__ == "__main__":
    sys.exit(main())
