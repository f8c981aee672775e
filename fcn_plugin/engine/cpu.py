"""Training and evaluation without a GPU, in one or several processes.

The host (MMEngine 0.10.7) takes a GPU for granted in four places: its process group, the device of
its model wrapper, its mixed precision, and BatchNorm over several processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from mmseg.registry import OPTIM_WRAPPERS
from torch import distributed

from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import type_name


def prepare_cpu(cfg: Config) -> None:
    """Make ``cfg`` run on the CPU if that is all there is; otherwise leave it alone.

    With a launcher the process group is joined here (gloo), before the runner would ask for nccl.
    A process waits for another for ``env_cfg.dist_cfg.timeout`` seconds (torch's 30 minutes where
    there is none), then fails.

    Raises:
        UserError: another launcher than torch's, or a timeout that is no time.
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
        distributed.init_process_group("gloo", timeout=_patience(cfg))
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


def _patience(cfg: Config) -> timedelta | None:
    """``env_cfg.dist_cfg.timeout``, which the host reads for a GPU only; None: torch's default."""
    seconds = cfg.get("env_cfg", {}).get("dist_cfg", {}).get("timeout")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise UserError(
            f"env_cfg.dist_cfg.timeout={seconds!r}; give the seconds that a process waits for "
            "another, e.g. 600"
        )
    return timedelta(seconds=seconds)


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
