"""What the tools share: options of a config, and errors in one line.

Nothing heavy is imported at the top, so that --help and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from explaining import explain

# A thread that waits for another one sleeps. As OpenMP would have it, it spins, and beside other
# work takes the core that the other one needs. Read when torch loads, so set before anything is
# imported; whoever has set either of the two has chosen.
WAITING = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
if not WAITING.keys() & os.environ.keys():
    os.environ.update(WAITING)

# What is read from a config beside the parameters of mmengine's Runner.
OTHER_KEYS = {
    "tta_model",
    "tta_pipeline",
    "test_pipeline",
    "splits",
    "runner_type",
    "compile",
    "sync_bn",
    "model_wrapper_cfg",
    "find_unused_parameters",
}


def add_network(parser: argparse.ArgumentParser) -> None:
    """The arguments of tools that take a trained network."""
    parser.add_argument("config", help="config file it was trained with")
    parser.add_argument(
        "checkpoint", help="checkpoint file, or a work dir (its best checkpoint, else its last)"
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """What ``load_config`` reads besides, for tools that start no run."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        type=key_value,
        metavar="KEY=VALUE",
        help="override settings of the config, as with tools/test.py",
    )
    parser.set_defaults(work_dir=None, launcher="none", local_rank=0)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of mmseg's own tools that train.py and test.py have in common."""
    parser.add_argument("--work-dir", help="folder of the run; default work_dirs/CONFIG")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        type=key_value,
        metavar="KEY=VALUE",
        help="override settings of the config, e.g. train_cfg.max_iters=100 "
        "model.decode_head.upsample=deconv 'key=[a,b]'",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="how the processes were started; dist_train.sh and slurm_train.sh set it",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def key_value(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return text


def load_config(args: argparse.Namespace):  # -> mmengine.Config
    """Read ``args.config`` and apply the options of ``add_run_options``."""
    # Before mmseg: registers our parts and makes the host importable.
    from mmengine.config import Config, DictAction

    import fcn_plugin  # noqa: F401
    from fcn_plugin.errors import UserError

    share_memory_with_workers()
    quiet_host()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if not Path(args.config).is_file():
        raise UserError(f"{args.config}: no such config; the shipped ones are in configs/")
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        parser = argparse.ArgumentParser()
        parser.add_argument("--cfg-options", nargs="+", action=DictAction)
        options = parser.parse_args(["--cfg-options", *args.cfg_options]).cfg_options
        for key in options:
            _refuse_shorthand(cfg, key)
        cfg.merge_from_dict(options)
    for loader in (cfg.get(f"{name}_dataloader") for name in ("train", "val", "test")):
        if loader and not loader.get("num_workers"):  # PyTorch refuses both without workers
            loader["persistent_workers"] = False
            loader.pop("timeout", None)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    return cfg


def quiet_host() -> None:
    """Leave out warnings of the host's that users can do nothing about."""
    # The host's hook for pictures is there for the host's tools; ours write their own.
    warnings.filterwarnings("ignore", message="The draw is False")
    # Its heads call a builder of its own that is on its way out.
    warnings.filterwarnings("ignore", message="``build_loss`` would be deprecated")


def share_memory_with_workers() -> None:
    """Keep the garbage collector of a data loader's worker off what it has from this process.

    It would go through all of it now and then, and so copy it: half an hour into a run, each worker
    takes tens of MB more.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=gc.freeze)


def _refuse_shorthand(cfg, key: str) -> None:  # cfg: mmengine.Config
    """A name like data_root only abbreviates within the file; to override it changes nothing."""
    from inspect import signature

    from mmengine.runner import Runner

    from fcn_plugin.errors import UserError

    meant = set(signature(Runner.__init__).parameters) | OTHER_KEYS
    if "." in key or key in meant or key not in cfg:
        return
    places = [place for name in sorted(meant & set(cfg)) for place in _places(cfg[name], name, key)]
    hint = (
        f"set {' '.join(f'{place}=...' for place in places[:3])}" if places else "edit the config"
    )
    raise UserError(f"--cfg-options {key}: only a shorthand within the config; {hint}")


def _places(node: object, path: str, key: str) -> list[str]:
    """Where ``key`` stands below ``path``."""
    if isinstance(node, dict):
        found = [f"{path}.{key}"] if key in node else []
        return found + [p for k, v in node.items() for p in _places(v, f"{path}.{k}", key)]
    if isinstance(node, list):
        return [p for i, v in enumerate(node) for p in _places(v, f"{path}.{i}", key)]
    return []


def run(main: Callable[[], None]) -> None:
    """Run a tool and exit: 0 on success; else 1 and, for a user's mistake, one line on stderr.

    ``FCN_PLUGIN_TRACEBACK=1`` shows the traceback of such a mistake as well.
    """
    show_warnings()
    try:
        main()
    except BrokenPipeError:  # whoever read the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get("FCN_PLUGIN_TRACEBACK"):
            print(printable(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
        if message is not None:
            print(f"error: {printable(message)}", file=sys.stderr)
        sys.exit(1)


def printable(text: str, keep: str = "") -> str:
    """As ``fcn_plugin.errors.printable``, also where the package is what cannot be imported."""
    try:
        from fcn_plugin import errors as package
    except ImportError:
        shown = (c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
        return "".join(shown)
    return package.printable(text, keep)


def show(text: object, **options: Any) -> None:
    """Print lines that may hold names and texts from files, which the terminal does not obey."""
    print(printable(str(text), keep="\n\t"), **options)


def show_warnings() -> None:
    """Warnings as Python writes them, in which the terminal obeys no text from files either."""
    write = warnings.formatwarning
    warnings.formatwarning = lambda *args, **kwargs: printable(write(*args, **kwargs), keep="\n")
