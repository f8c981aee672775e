"""Data loaders' workers: files that they may open, and how long a run waits for them.

Each tensor that a worker hands over is an open file to both. A worker that may open no more loses
its batch, and the run would wait for that for ever.
"""

import os

from mmengine.config import Config

from fcn_plugin.errors import UserError

# Seconds that a run waits for a batch, far longer than any disk takes; as env_cfg.dist_cfg.timeout.
PATIENCE = 600
TENSORS = 2  # of a sample: image and label
OTHERS = 64  # files that a run has open besides: libraries, logs, devices
OF_A_WORKER = 8  # pipes and locks


def prepare_loaders(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Give loaders with workers a ``timeout`` and raise the limit of open files as they need.

    ``loaders`` are the keys of the data loaders that are going to be used.

    Raises:
        UserError: the system's limit (``ulimit -n``) is too low for them.
    """
    with_workers = {key: cfg[key] for key in loaders if (cfg.get(key) or {}).get("num_workers")}
    for loader in with_workers.values():
        loader.setdefault("timeout", PATIENCE)
    allowed = _raise_limit(OTHERS + sum(map(_most, with_workers.values())))
    for key, loader in with_workers.items():
        least = OTHERS + _least(loader)
        if least > allowed:
            raise UserError(
                f"{key}: its workers need about {least} open files, and ulimit -n allows "
                f"{allowed}; raise that, or set {key}.num_workers=0"
            )


def _batch(loader: dict) -> int:
    return TENSORS * int(loader.get("batch_size") or 1)


def _ahead(loader: dict) -> int:
    return int(loader.get("prefetch_factor") or 2)


def _least(loader: dict) -> int:
    """What a worker has open that is as far ahead as it may be."""
    return _batch(loader) * _ahead(loader) + OF_A_WORKER * loader["num_workers"]


def _most(loader: dict) -> int:
    """What the run has open where all workers but one wait for that one."""
    return (_batch(loader) * _ahead(loader) + OF_A_WORKER) * (loader["num_workers"] + 1)


def _raise_limit(wanted: int) -> float:
    """Let this process and its workers have ``wanted`` open files; the number it may have then."""
    if os.name != "posix":
        return float("inf")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return float("inf") if soft == unlimited else soft
