"""Load a published file into a backbone of timm (``TIMMBackbone`` of mmseg)."""

from pathlib import Path
from typing import Any

from mmengine.logging import MMLogger
from mmengine.model import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from fcn_plugin.errors import UserError
from fcn_plugin.weights.fill import Report, check_whole, fill
from fcn_plugin.weights.networks import COUNT
from fcn_plugin.weights.recognise import open_weights

EPSILON = 1e-3  # TensorFlow's BatchNorm; PyTorch has 1e-5
NETWORK = "TIMMBackbone with model_name='tf_efficientnet_lite0' and three channels"
REMEDY = f"use it for {NETWORK}"


@WEIGHT_INITIALIZERS.register_module()
class TimmWeights:
    """An ``init_cfg`` that loads strictly, where mmengine's ``Pretrained`` only warns.

    ``init_cfg=dict(type="TimmWeights", checkpoint=FILE)`` of a ``TIMMBackbone`` with
    ``pretrained=False``; see ``load_timm``.

    Args:
        checkpoint: the name of the file.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def __call__(self, module: nn.Module) -> None:
        load_timm(module, self.checkpoint)
        if hasattr(module, "_params_init_info"):  # mmengine's list in the log of what set each one
            update_init_info(module, init_info=f"load from {self.checkpoint}")


def load_timm(backbone: Any, checkpoint: str) -> Report:
    """Fill a ``TIMMBackbone`` from a file; return and log what became of each tensor.

    Args:
        checkpoint: EfficientNet-Lite0 (RGB, (values in 0-255 - 127) / 128) as
            efficientnet_lite_pytorch names its tensors; its last layers are dropped.

    Raises:
        UserError: the file is missing, damaged or unknown, does not fit, or the network computes
            otherwise than the one that was trained.
    """
    path = Path(checkpoint)
    weights = open_weights(path, identify=False)
    network = getattr(backbone, "timm_model", None)
    if network is None or not _as_tensorflow(network):
        raise UserError(
            f"{path}: was trained with TensorFlow's padding and a BatchNorm epsilon of {EPSILON}, "
            f"which {type(backbone).__name__} as configured does not have; {REMEDY}"
        )
    state = network.state_dict()
    shapes = {name: tensor.shape for name, tensor in state.items()}
    tensors, report = fill(weights, shapes, {n: n for n in state}, lambda _: None, REMEDY)
    missing = [name for name in report.new if not name.endswith(COUNT)]
    check_whole(weights, missing, REMEDY)
    network.load_state_dict({**state, **tensors})
    backbone.trained_on = weights.input
    log = MMLogger.get_current_instance().info
    log("%s from %s:\n  %s", weights.layout.title, path, report)
    return report


def _as_tensorflow(network: nn.Module) -> bool:
    """Whether it pads before strided convolutions ("SAME") and its norms have TensorFlow's epsilon.

    Neither is so in timm's ``efficientnet_lite0``, whose tensors have the same names and shapes.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and max(layer.stride) > 1 and any(layer.padding):
            return False
        if isinstance(layer, nn.BatchNorm2d) and layer.eps != EPSILON:
            return False
    return True
