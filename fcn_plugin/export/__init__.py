"""Export a segmentor to ONNX, which runs without PyTorch, or to a ``torch.export`` graph."""

from fcn_plugin.export.checking import Check, check_onnx
from fcn_plugin.export.deployed import Deployed
from fcn_plugin.export.graph import export_graph
from fcn_plugin.export.onnx_file import export_onnx
from fcn_plugin.export.resizing import Resizing

__all__ = ["Check", "Deployed", "Resizing", "check_onnx", "export_graph", "export_onnx"]
