"""Stages of a chain of trainings: read them, check that they fit, train and record them."""

import argparse
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import load_config, next_step, show, write_json
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from fcn_plugin.checks.config import check_datasets, check_settings
from fcn_plugin.conversion.convert import convert
from fcn_plugin.conversion.network import Conversion
from fcn_plugin.engine.resuming import first_usable, last_resumable
from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import dotted_settings, one_or_many
from fcn_plugin.weights import networks
from fcn_plugin.weights.files import check_checkpoint
from fcn_plugin.weights.recognise import recognise_tensors

TRAIN = Path(__file__).resolve().with_name("train.py")
# Settings that affect the result of a stage. All others may change when a run is resumed.
DECISIVE = ("model", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
DECISIVE += ("randomness", "val_dataloader", "val_cfg", "val_evaluator")
INDIFFERENT = ("num_workers", "persistent_workers")  # data-loader settings without effect on it


@dataclass
class Stage:
    """One config of the chain."""

    config: Path
    folder: Path
    cfg: Any  # mmengine.Config
    model: Any  # on the device "meta", without memory
    settings: dict[str, str]  # those that affect the result, by dotted name
    options: list[str]  # what is given to --cfg-options

    @property
    def name(self) -> str:
        return self.config.stem

    @property
    def iterations(self) -> int:
        return int(self.cfg.train_cfg.max_iters)

    @property
    def begun(self) -> bool:
        return any(self.folder.glob("iter_*.pth"))


def train_stages(stages: list[Stage], folder: Path, args: argparse.Namespace) -> None:
    """Train the unfinished stages, each from the best snapshot of the stage before."""
    done = read_record(stages, folder)
    for number, stage in enumerate(stages, start=1):
        title = f"stage {number} of {len(stages)}: {stage.name}"
        if number <= len(done):
            say(f"{title}: done before, {in_words(done[number - 1], folder)}")
            continue
        write_record(stages, folder, done)
        write_json(stage.folder / "settings.json", stage.settings)
        command = [sys.executable, TRAIN, stage.config, "--work-dir", stage.folder]
        # A resumed run first scores its snapshot, in case its validation was interrupted.
        options = [*stage.options, "default_hooks.score_resumed.type=ScoreResumedHook"]
        if stage.begun:
            say(f"{title}: goes on, up to iteration {stage.iterations}")
            command.append("--resume")
        else:
            say(f"{title}: {stage.iterations} iterations")
            if done:
                options.append(f"load_from={hand_on(folder / done[-1]['file'], stage)}")
        train([*command, *["--amp"] * args.amp, "--cfg-options", *options], title)
        done.append(best_snapshot(stage, title))
        write_record(stages, folder, done)
        say(f"{title}: done, {in_words(done[-1], folder)}")
    count = len(stages)
    say(f"Done: {count} of {count} stages; the last reached {in_words(done[-1], folder)}")
    say(next_step("report", stages[-1].folder))


def say(line: str) -> None:
    show(line, flush=True)


# --- what a stage is --------------------------------------------------------------------------


def read_stages(args: argparse.Namespace, folder: Path) -> list[Stage]:
    """All stages, checked before the first one trains."""
    stages: list[Stage] = []
    for config in args.configs:
        work_dir = folder / config.stem
        # They are passed to fcn-plugin train in --cfg-options, which mmengine parses.
        for path in (work_dir, args.pretrained or ""):
            if altered := sorted(set(str(path)) & set(" ,'\"()[]")):
                raise UserError(
                    f"{path}: mmengine's options cannot hold a path with {altered[0]!r}; rename "
                    "it, or give a relative path without"
                )
        if work_dir in (other.folder for other in stages):
            raise UserError(f"{config}: {work_dir.name} is in the chain twice; rename one of them")
        options = [*(args.cfg_options or ())]
        if args.pretrained and not stages:
            init_cfg = dict(_delete_=True, type="Pretrained", checkpoint=args.pretrained)
            options += [f"model.backbone.init_cfg.{k}={v}" for k, v in init_cfg.items()]
        given = dict(config=config, work_dir=str(work_dir), cfg_options=options)
        cfg = load_config(argparse.Namespace(**vars(args) | given))
        if "max_iters" not in (cfg.get("train_cfg") or {}):
            raise UserError(f"{config}: has no train_cfg.max_iters, the length of a stage")
        stage = Stage(config, work_dir, cfg, model_of(cfg), settings_of(cfg, args.amp), options)
        if stages:
            check_fit(weights_after(stages[-1], stage), stage)
        check_settings(cfg)
        check_datasets(cfg, ("train_dataloader", "val_dataloader"))
        stages.append(stage)
    return stages


def model_of(cfg: Any) -> Any:
    init_default_scope(cfg.get("default_scope", "mmseg"))
    with torch.device("meta"):
        return MODELS.build(cfg.model)


def settings_of(cfg: Any, amp: bool) -> dict[str, str]:
    settings = {"--amp": str(amp)}
    for key in DECISIVE:
        if cfg.get(key) is not None:
            settings |= dotted_settings(cfg[key], key)
    return {
        name: value
        for name, value in settings.items()
        if name.rpartition(".")[2] not in INDIFFERENT
    }


# --- from one stage to the next ---------------------------------------------------------------


def net_of(stage: Stage) -> str:
    """The published network that a config describes, such as "fcn16s"."""
    net = networks.net_of(stage.model)
    if net is None:
        raise UserError(
            f"{stage.config}: cannot be a stage of a chain, which takes {', '.join(networks.NETS)}"
            ": a SkipFusionHead on the levels of one of our backbones"
        )
    return net


def weights_after(before: Stage, stage: Stage) -> dict[str, Any]:
    """The weights that ``stage`` will get from the stage before; zeros of the right shapes."""
    state = before.model.state_dict()
    # Each takes the memory of one number.
    empty = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items()}
    weights = recognise_tensors(before.config, empty, dict(net=net_of(before)))
    return Conversion(weights, net=net_of(stage)).state_dict


def check_fit(weights: dict[str, Any], stage: Stage) -> None:
    """Refuse weights with other names or shapes than the stage's model; mmengine would only warn.

    Learned upsampling kernels may be missing: their stride differs by stage, so they start anew.
    """
    wanted = stage.model.state_dict()
    for name in sorted(wanted.keys() | weights.keys()):
        has, needs = (
            tuple(state[name].shape) if name in state else "none" for state in (weights, wanted)
        )
        if has != needs and not (has == "none" and name.endswith(".deconv.weight")):
            raise UserError(
                f"{stage.config}: does not continue the stage before, which gives {name} {has} "
                f"where it needs {needs}; make the widths and classes of both alike"
            )


def hand_on(best: Path, stage: Stage) -> Path:
    """The file, written here, with the weights that ``stage`` starts from."""
    start = stage.folder / "start.pth"
    say(f"{stage.name}: starts from {best}")
    conversion = convert(best, start, net=net_of(stage))
    say(str(conversion))
    check_fit(conversion.state_dict, stage)
    return start


def train(command: list, title: str) -> None:
    with subprocess.Popen([str(part) for part in command]) as process:
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
    if status == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if status != 0:
        how = f"exit status {status}" if status > 0 else signal.Signals(-status).name
        raise UserError(
            f"{title}: fcn-plugin train ended with {how}; put right what it says above, then give "
            "the same command again, which goes on from the last snapshot"
        )


def best_snapshot(stage: Stage, title: str) -> dict[str, Any]:
    """The record of a finished stage's best snapshot, or of its last if there is no best."""
    last = last_resumable(stage.folder, say)
    reached = check_checkpoint(last)["meta"]["iter"] if last else 0
    if last is None or reached < stage.iterations:
        raise UserError(
            f"{title}: ended with {f'iteration {reached}' if last else 'no snapshot'} instead of "
            f"iteration {stage.iterations}; see default_hooks.checkpoint and the hooks that stop a "
            "training in the config"
        )
    hook = (stage.cfg.get("default_hooks") or {}).get("checkpoint") or {}
    metric = next(iter(one_or_many(hook.get("save_best"))), "auto")
    name = "*" if metric == "auto" else metric.replace("/", "_")
    # More than one exists only if a run was killed while it replaced one by a better one.
    newest_first = sorted(
        stage.folder.glob(f"best_{name}_iter_*.pth"), key=lambda file: -file.stat().st_mtime
    )
    file = first_usable(newest_first, say) or last
    content = check_checkpoint(file)
    snapshot = dict(config=stage.name, file=f"{stage.name}/{file.name}")
    snapshot |= dict(iteration=content["meta"]["iter"], metric=None, score=None)
    if match := re.fullmatch(r"best_(.+)_iter_\d+", file.stem):
        info, metric = content["message_hub"]["runtime_info"], match[1]
        score = info.get("best_score", info.get(f"best_score_{metric}"))
        snapshot |= dict(metric=metric, score=float(score))
    return snapshot


# --- the record -------------------------------------------------------------------------------


def read_record(stages: list[Stage], folder: Path) -> list[dict[str, Any]]:
    """The best snapshots of the finished stages, from ``stages.json``.

    Raises:
        UserError: the folder belongs to another chain, or to one with other settings.
    """
    file, names = folder / "stages.json", [stage.name for stage in stages]
    record = json.loads(file.read_text()) if file.is_file() else dict(configs=[], done=[])
    before, done = record["configs"], record["done"]
    begun = done or any(any((folder / name).glob("iter_*.pth")) for name in before)
    if begun and before != names[: len(before)]:
        raise UserError(
            f"{file}: of the chain {', '.join(before)}, not of {', '.join(names)}; give the same "
            "configs, or another --work-dir"
        )
    for number, stage in enumerate(stages):
        if number < len(done) or stage.begun:
            check_settings_kept(stage)
    return done


def check_settings_kept(stage: Stage) -> None:
    """Refuse to continue a stage with other settings than it was begun with."""
    file = stage.folder / "settings.json"
    if not file.is_file():
        raise UserError(
            f"{stage.folder}: has checkpoints of another run; give another --work-dir, or delete "
            "them"
        )
    now, before = stage.settings, json.loads(file.read_text())
    for key in sorted(now.keys() | before.keys()):
        if now.get(key) != before.get(key):
            raise UserError(
                f"{stage.folder}: was begun with {key}={before.get(key, '(none)')}, which is "
                f"{now.get(key, '(none)')} now; set it back, or give another --work-dir"
            )


def write_record(stages: list[Stage], folder: Path, done: list[dict[str, Any]]) -> None:
    write_json(folder / "stages.json", dict(configs=[stage.name for stage in stages], done=done))


def in_words(snapshot: dict[str, Any], folder: Path) -> str:
    score = f"{snapshot['metric']} {snapshot['score']:.2f} " if snapshot["metric"] else ""
    return f"{score}at iteration {snapshot['iteration']}, {folder / snapshot['file']}"
