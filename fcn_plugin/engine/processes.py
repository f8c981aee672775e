"""Training in several processes, and on a CPU.

mmengine 0.10.7 expects a GPU in four places: its process group, the device of its model wrapper,
its mixed precision, and BatchNorm over several processes.
"""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import barrier, broadcast, is_distributed
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from mmseg.registry import HOOKS, OPTIM_WRAPPERS
from torch import distributed
from torch.utils.data import DataLoader

from fcn_plugin.engine.precision import bfloat16_ratio
from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import dicts_in, type_name
from fcn_plugin.system.network import choose_card

SLOWER = 1.2  # a smaller ratio may be the noise of the machine


def prepare_cpu(cfg: Config) -> None:
    """Make ``cfg`` run on the CPU if there is no GPU.

    With a launcher, join the process group with gloo before the runner would ask for nccl. A
    process that waits for another fails after ``env_cfg.dist_cfg.timeout`` seconds (by default
    torch's 30 minutes).

    Raises:
        UserError: the launcher is not 'pytorch', or the timeout is not a number of seconds.
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
            "with fcn-plugin dist_train or torchrun"
        )
    if not distributed.is_initialized():
        choose_card()
        distributed.init_process_group("gloo", timeout=_timeout(cfg))
    cfg.setdefault(
        "model_wrapper_cfg",
        dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        ),
    )
    # torch has no SyncBatchNorm for CPUs: each process normalises its own part of the batch.
    for _, node in dicts_in(cfg.model):
        if type_name(node) in ("SyncBN", "SyncBatchNorm"):
            node["type"] = "BN"


def leave_group() -> None:
    """Wait for the other processes and leave their group, as the last thing that this one does.

    gloo's threads release the tensors of a collective only some time after it. If Python is ending
    by then, they abort the process (SIGABRT); once the group is destroyed, they have ended.

    Raises:
        RuntimeError: another process has failed, or did not come here before the group's timeout.
    """
    if is_distributed():
        barrier()
        distributed.destroy_process_group()
        end_workers()
        # The model wrapper of a runner, which is part of cycles, keeps the group's threads.
        gc.collect()


def end_workers() -> None:
    """End the workers that loaders keep for their next epoch.

    A loader that is collected as part of a cycle waits 5 s for each of its workers: the queue by
    which it would tell them to end is collected with it.
    """
    for loader in gc.get_objects():
        # Not isinstance, which imports what stands behind lazy modules.
        if issubclass(type(loader), DataLoader):
            loader._iterator = None


def _timeout(cfg: Config) -> timedelta | None:
    """``env_cfg.dist_cfg.timeout``, which mmengine reads only with a GPU."""
    seconds = cfg.get("env_cfg", {}).get("dist_cfg", {}).get("timeout")
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e9:
        raise UserError(
            f"env_cfg.dist_cfg.timeout={seconds!r}; give the seconds that a process waits for "
            "another, e.g. 600"
        )
    return timedelta(seconds=seconds)


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Mixed precision in bfloat16, which needs no loss scaling; the CPU's ``--amp``.

    A warning says so if this CPU takes longer in bfloat16 than in float32.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (ratio := bfloat16_ratio()) > SLOWER:
            print_log(
                f"--amp: a convolution in bfloat16 takes {ratio:.1f} times as long as in float32 "
                "on this CPU; leave --amp out to train faster",
                "current",
                logging.WARNING,
            )

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Iterator[None]:
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


@HOOKS.register_module()
class SameBuffersHook(Hook):
    """Before validation, copy the first process's buffers to all: checkpoints store only these.

    Without SyncBN each process has running statistics of its own images: the scores would be of
    several networks, and a resumed run would give other scores.
    """

    def before_val(self, runner: Runner) -> None:
        for buffer in runner.model.buffers():
            broadcast(buffer)
