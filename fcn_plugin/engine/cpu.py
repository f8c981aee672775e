"""Training and evaluation without a GPU, in one or several processes.

The host (MMEngine 0.10.7) takes a GPU for granted in three places: its process group, the device
of its model wrapper and its mixed precision.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from mmseg.registry import OPTIM_WRAPPERS
from torch import distributed

from fcn_plugin.config import type_name
from fcn_plugin.errors import UserError


def prepare_cpu(cfg: Config) -> None:
    """Make ``cfg`` run on the CPU if that is all there is; otherwise leave it alone.

    With a launcher the process group is joined here (gloo), before the runner would ask for nccl.
    """
    if get_device() != "cpu":
        return
    if type_name(cfg.get("optim_wrapper")) == "AmpOptimWrapper":
        cfg.optim_wrapper.type = "BFloat16OptimWrapper"
        # bfloat16 has the range of float32 and needs no scaling.
        for setting in ("loss_scale", "dtype", "use_fsdp"):
            cfg.optim_wrapper.pop(setting, None)
    if cfg.get("launcher", "none") == "none":
        return
    if cfg.launcher != "pytorch":
        raise UserError(
            f"--launcher {cfg.launcher}: without a GPU only 'pytorch' works; start the processes "
            "with tools/dist_train.sh or torchrun"
        )
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    cfg.setdefault(
        "model_wrapper_cfg",
        dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        ),
    )
    _unsync_batch_norm(cfg.model)


def _unsync_batch_norm(node: object) -> None:
    """torch has no SyncBatchNorm for CPU processes: each normalises its own part of the batch."""
    if isinstance(node, dict):
        if type_name(node) in ("SyncBN", "SyncBatchNorm"):
            node["type"] = "BN"
        for child in node.values():
            _unsync_batch_norm(child)
    elif isinstance(node, list | tuple):
        for child in node:
            _unsync_batch_norm(child)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, which needs no loss scaling; the CPU's ``--amp``."""

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield
