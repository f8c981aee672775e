"""torch.compile for the network and its loss."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from fcn_plugin.engine.runner import bare_model
from fcn_plugin.errors import UserError
from fcn_plugin.system.newer_torch import need_newer_torch


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile the segmentor's forward pass in training, loss included, as one graph.

    mmengine's runner compiles the whole step; as the samples' names and sizes differ each time, it
    compiles anew until it gives up. Prediction, where images have any size, is not compiled.

    Args:
        settings: Arguments of ``torch.compile``, such as backend and mode.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def before_train(self, runner: Runner) -> None:
        need_newer_torch("compile")
        model = bare_model(runner)
        recomputed = [m for m in model.modules() if getattr(m, "with_cp", False)]
        if any(isinstance(m, _BatchNorm) for stage in recomputed for m in stage.modules()):
            raise UserError(
                "compile: torch.compile cannot recompute layers with BatchNorm; leave out compile, "
                "or set with_cp=False"
            )
        plain = model.forward
        compiled = torch.compile(plain, **self.settings)

        def forward(inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
            return (compiled if mode == "loss" else plain)(inputs, data_samples, mode)

        model.forward = forward
        runner.logger.info("The network is compiled in the first iteration, which takes a minute")
