"""Shared by the tools: options, loading of configs, and one-line error messages.

Heavy packages are imported inside functions, so that --help and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from explaining import explain
from parsing import ToolParser
from threads import set_threads

THREADS = set_threads()  # before torch is imported
# torch then asks Linux for large pages: a picture's activations are new memory each time, and
# filling it page by page of 4 KiB takes up to a third of a prediction.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# Keys of a config that are read in addition to the parameters of mmengine's Runner.
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
AMP = "mixed precision: float16 on a GPU, bfloat16 on the CPU"


def add_network(parser: ToolParser) -> None:
    """Add the arguments of tools that take a trained network."""
    group = parser.group("network")
    group.add_argument(
        "config",
        metavar="CONFIG",
        help="config it was trained with: a file, or a shipped one's name",
    )
    group.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file, its address (http, https, hf), or a work dir: its best, or last",
    )


def add_task(parser: ToolParser, title: str = "network") -> None:
    """Add --task, of tools that predict or score one labeling."""
    parser.group(title).add_argument(
        "--task", metavar="NAME", help="the labels of this one of the config's task_heads"
    )


def add_cfg_options(parser: ToolParser, title: str = "network") -> None:
    """Add --cfg-options, and defaults for the other options that ``load_config`` reads."""
    parser.group(title).add_argument(
        "--cfg-options",
        nargs="+",
        type=key_value,
        metavar="KEY=VALUE",
        help="override the config, e.g. train_cfg.max_iters=100 'key=[a,b]'",
    )
    parser.set_defaults(work_dir=None, launcher="none", local_rank=0)


def add_run_options(parser: ToolParser) -> None:
    """Add the options that train.py and test.py share, as in mmseg's own tools."""
    add_cfg_options(parser, "run")
    group = parser.group("run")
    group.add_argument(
        "--work-dir", metavar="DIR", help="folder of the run; default work_dirs/CONFIG"
    )
    group.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        metavar="NAME",
        help="none (default), pytorch, slurm or mpi; dist_train and its like set it",
    )
    group.add_argument("--local_rank", "--local-rank", type=int, help=argparse.SUPPRESS)


def add_interval_options(parser: ToolParser) -> None:
    """Add --interval and --interval-by, which ``interval_by`` reads."""
    group = parser.group("scores")
    group.add_argument(
        "--interval", action="store_true", help="also 95 %% intervals, by bootstrap over images"
    )
    group.add_argument(
        "--interval-by",
        choices=("image", "scene"),
        metavar="WHAT",
        help="image (default), or scene: images alike in name up to the last _",
    )


def interval_by(args: argparse.Namespace) -> str | None:
    """What intervals are over, 'image' or 'scene'; None without intervals."""
    return args.interval_by or ("image" if args.interval else None)


class Alone(argparse.Action):
    """Keeps several names; 'all' and 'none' stand alone."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        if len(values) > 1 and {"all", "none"} & set(values):
            parser.error(f"{option}: 'all' and 'none' stand alone")
        setattr(namespace, self.dest, values)


def add_measure_options(parser: ToolParser, *names: str, default: str) -> None:
    """Add --measures, which ``chosen_measures`` reads, and --boundary-ratio."""
    group = parser.group("scores")
    group.add_argument(
        "--measures",
        nargs="+",
        action=Alone,
        choices=(*names, "all", "none"),
        metavar="NAME",
        help=f"besides: {', '.join(names)}, all or none; default: {default}",
    )
    group.add_argument(
        "--boundary-ratio",
        type=float,
        metavar="R",
        help="width of boundary regions, of the image's diagonal; default 0.02",
    )
    parser.set_defaults(all_measures=names)


def chosen_measures(args: argparse.Namespace) -> tuple[str, ...] | None:
    """The names that --measures chooses, or None if it is not given."""
    if args.measures is None:
        return None
    if args.measures == ["all"]:
        return args.all_measures
    return tuple(name for name in args.all_measures if name in args.measures)


def boundary_ratio(args: argparse.Namespace) -> dict[str, float]:
    """The setting of --boundary-ratio; empty if it is not given."""
    return {} if args.boundary_ratio is None else {"boundary_ratio": args.boundary_ratio}


def key_value(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return text


def load_config(args: argparse.Namespace):  # -> mmengine.Config
    """The config ``args.config`` with the options of ``add_run_options`` applied."""
    from mmengine.config import Config, DictAction

    import fcn_plugin  # noqa: F401  # registers our modules and makes mmseg importable
    from fcn_plugin.system.configs import config_file

    share_memory_with_workers()
    quiet_host()
    say_threads()
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = Config.fromfile(config_file(args.config))
    if args.cfg_options:
        parser = argparse.ArgumentParser()
        parser.add_argument("--cfg-options", nargs="+", action=DictAction)
        options = parser.parse_args(["--cfg-options", *args.cfg_options]).cfg_options
        for key in options:
            _refuse_shorthand(cfg, key)
        cfg.merge_from_dict(options)
    for loader in (cfg.get(f"{name}_dataloader") for name in ("train", "val", "test")):
        if loader and not loader.get("num_workers"):  # then PyTorch refuses these two
            loader["persistent_workers"] = False
            loader.pop("timeout", None)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    return cfg


@cache
def say_threads() -> None:
    """Say, once, how many threads compute and why, if they are not all cores of the machine."""
    if THREADS:
        show(THREADS, file=sys.stderr)


def quiet_host() -> None:
    """Hide warnings of mmseg that users can do nothing about."""
    # From mmseg's visualization hook, which draws nothing here.
    warnings.filterwarnings("ignore", message="The draw is False")
    # From mmseg's heads, which call a deprecated function of mmseg.
    warnings.filterwarnings("ignore", message="``build_loss`` would be deprecated")


def share_memory_with_workers() -> None:
    """Keep the workers of data loaders from copying this process's memory.

    Their garbage collector would write to every inherited object, and half an hour into a run each
    worker would take tens of MB more.
    """
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=gc.freeze)


def _refuse_shorthand(cfg, key: str) -> None:  # cfg: mmengine.Config
    """Refuse to override a key like data_root, which only the config file itself reads."""
    from inspect import signature

    from mmengine.runner import Runner

    from fcn_plugin.errors import UserError
    from fcn_plugin.system.configs import dotted_settings

    read_keys = set(signature(Runner.__init__).parameters) | OTHER_KEYS
    if "." in key or key in read_keys or key not in cfg:
        return
    parts = sorted(read_keys & set(cfg))
    names = [name for part in parts for name, _ in dotted_settings(cfg[part], part)]
    matches = [re.match(rf"(.+?\.{re.escape(key)})(\.|$)", name) for name in names]
    settings = [f"{name}=..." for name in dict.fromkeys(match[1] for match in matches if match)]
    hint = f"set {' '.join(settings[:3])}" if settings else "edit the config"
    raise UserError(f"--cfg-options {key}: only a shorthand within the config; {hint}")


def run(main: Callable[[], None]) -> None:
    """Run a tool and exit with 0, or with 1 and, for a user's mistake, one line on stderr.

    Of several processes none ends before all have finished; one that fails waits for none.
    ``FCN_PLUGIN_TRACEBACK=1`` also shows the traceback of a user's mistake.
    """
    show_warnings()
    status = _status(main)
    # Looked up, for an import takes seconds; a tool that has not imported it is alone. One that has
    # failed leaves no group: it would wait for the others, and they for it.
    if status == 0 and (processes := sys.modules.get("fcn_plugin.engine.processes")):
        status = _status(processes.leave_group)
    if status:
        sys.exit(status)


def _status(work: Callable[[], None]) -> int:
    """Exit status of ``work``, whose error is shown."""
    try:
        work()
    except BrokenPipeError:  # the reader of our output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        message = explain(error)
        if message is None or os.environ.get("FCN_PLUGIN_TRACEBACK"):
            print(printable(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
        if message is not None:
            print(f"error: {printable(message)}", file=sys.stderr)
        return 1
    return 0


def printable(text: str, keep: str = "") -> str:
    """Like ``fcn_plugin.errors.printable``, but works if fcn_plugin cannot be imported."""
    try:
        from fcn_plugin import errors
    except ImportError:
        return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
    return errors.printable(text, keep)


def next_step(*words: object) -> str:
    """The line that ends a tool's output: the command to give next."""
    return f"Next: fcn-plugin {shlex.join(map(str, words))}"


def write_json(file: Path, content: dict) -> None:
    from fcn_plugin.system.files import replacing

    with replacing(file) as part:
        part.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def show(text: object, **options: Any) -> None:
    """Print lines with control characters escaped, since texts from files may contain some."""
    print(printable(str(text), keep="\n\t"), **options)


def show_warnings() -> None:
    """Escape control characters in Python's warnings, too."""
    write = warnings.formatwarning
    warnings.formatwarning = lambda *args, **kwargs: printable(write(*args, **kwargs), keep="\n")
