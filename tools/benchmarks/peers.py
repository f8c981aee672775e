"""pytorch-fcn's FCN-8s, from a clone of github.com/wkentaro/pytorch-fcn."""

import importlib
import sys
from types import ModuleType

from torch import nn

from benchmarks.framework import Setting, Skipped


def peer(setting: Setting, classes: int) -> nn.Module:
    """pytorch-fcn's FCN-8s, without the packages around it: they download, plot and read sets."""
    if setting.peers is None:
        raise Skipped("give --peer DIR, a clone of github.com/wkentaro/pytorch-fcn")
    sys.modules.setdefault("fcn", ModuleType("fcn"))  # only for downloads
    package = ModuleType("torchfcn_models")
    package.__path__ = [str(setting.peers.resolve() / "torchfcn" / "models")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.fcn8s").FCN8s(n_class=classes)
