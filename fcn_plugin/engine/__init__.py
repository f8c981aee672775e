"""What the host's runner lacks."""

from fcn_plugin.engine.cpu import BFloat16OptimWrapper
from fcn_plugin.engine.data_check import DataCheckHook
from fcn_plugin.engine.pictures import PicturesHook

__all__ = ["BFloat16OptimWrapper", "DataCheckHook", "PicturesHook"]
