"""The stages of a chain: read, checked to fit together, trained, recorded."""

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
from common import load_config, show, write_json
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from fcn_plugin.checks.config import check_datasets, check_settings
from fcn_plugin.conversion.convert import Conversion, convert
from fcn_plugin.engine.resuming import first_usable, last_resumable
from fcn_plugin.errors import UserError
from fcn_plugin.system.configs import dotted_settings, one_or_many
from fcn_plugin.weights import networks
from fcn_plugin.weights.files import check_checkpoint
from fcn_plugin.weights.recognise import recognise_tensors

TRAIN = Path(__file__).resolve().with_name("train.py")
# What decides how a stage ends; all else, the logs say, may change between two runs.
DECISIVE = ("model", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
DECISIVE += ("randomness", "val_dataloader", "val_cfg", "val_evaluator")
INDIFFERENT = ("num_workers", "persistent_workers")  # of the data loaders


@dataclass
class Stage:
    """One config of the chain."""

    config: Path
    folder: Path
    cfg: Any  # mmengine.Config
    model: Any  # on the device "meta", without memory
    settings: dict[str, str]  # what decides how it ends, by dotted name

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
    """Train what is not done yet, and hand each stage's best snapshot on."""
    done = read_record(stages, folder)
    for number, stage in enumerate(stages, start=1):
        title = f"stage {number} of {len(stages)}: {stage.name}"
        if number <= len(done):
            say(f"{title}: done before, {in_words(done[number - 1], folder)}")
            continue
        write_record(stages, folder, done)
        write_json(stage.folder / "settings.json", stage.settings)
        command = [sys.executable, TRAIN, stage.config, "--work-dir", stage.folder]
        # Scores the snapshot it goes on from, in case that was interrupted.
        options = [*(args.cfg_options or ()), "default_hooks.score_resumed.type=ScoreResumedHook"]
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


def say(line: str) -> None:
    show(line, flush=True)


# --- what a stage is --------------------------------------------------------------------------


def read_stages(args: argparse.Namespace, folder: Path) -> list[Stage]:
    """All configs with the options; what is wrong with the last is better said before the first."""
    stages: list[Stage] = []
    for config in args.configs:
        own = folder / config.stem
        # They go on to tools/train.py as the value of an option, a word of mmengine's own syntax.
        if altered := sorted(set(str(own)) & set(" ,'\"()[]")):
            raise UserError(
                f"{own}: mmengine's options cannot pass a path with {altered[0]!r} on; rename the "
                "config or choose another --work-dir, perhaps a relative one"
            )
        if own in (other.folder for other in stages):
            raise UserError(f"{config}: {own.name} is in the chain twice; rename one of them")
        given = vars(args) | dict(config=config, work_dir=str(own))
        cfg = load_config(argparse.Namespace(**given))
        if "max_iters" not in (cfg.get("train_cfg") or {}):
            raise UserError(
                f"{config}: has no train_cfg.max_iters; a stage is so many iterations long"
            )
        stage = Stage(config, own, cfg, model_of(cfg), settings_of(cfg, args.amp))
        if stages:
            check_fit(promised(stages[-1], stage), stage)
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
    """Which of the published networks a config is."""
    net = networks.net_of(stage.model)
    if net is None:
        raise UserError(
            f"{stage.config}: cannot be a stage of a chain, which takes {', '.join(networks.NETS)}"
            ": a SkipFusionHead on the levels of one of our backbones"
        )
    return net


def promised(before: Stage, stage: Stage) -> dict[str, Any]:
    """What the stage before will hand on, by its shapes."""
    state = before.model.state_dict()
    # Of one number each, seen in the tensor's shape.
    empty = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items()}
    weights = recognise_tensors(before.config, empty, dict(net=net_of(before)))
    return Conversion(weights, net=net_of(stage)).state_dict


def check_fit(given: dict[str, Any], stage: Stage) -> None:
    """Refuse weights that are not exactly those of the stage's model; mmengine would only warn.

    Learned kernels, of another stride in every stage, start as bilinear.
    """
    wanted = stage.model.state_dict()
    for name in sorted(wanted.keys() | given.keys()):
        has, needs = (
            tuple(state[name].shape) if name in state else "none" for state in (given, wanted)
        )
        if has != needs and not (has == "none" and name.endswith(".deconv.weight")):
            raise UserError(
                f"{stage.config}: does not continue the stage before, which gives {name} {has} "
                f"where it needs {needs}; make the widths and classes of both alike"
            )


def hand_on(best: Path, stage: Stage) -> Path:
    """Write the weights that ``stage`` starts with, and return their file."""
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
            f"{title}: tools/train.py ended with {how}; put right what it says above, then give "
            "the same command again, which goes on from the last snapshot"
        )


def best_snapshot(stage: Stage, title: str) -> dict[str, Any]:
    """The best snapshot of a stage whose training has ended, else its last, as it is recorded."""
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
    # Several are there only if a run was killed while it replaced one by the next, a better one.
    newest_first = sorted(
        stage.folder.glob(f"best_{name}_iter_*.pth"), key=lambda file: -file.stat().st_mtime
    )
    file = first_usable(newest_first, say) or last
    content = check_checkpoint(file)
    snapshot = dict(config=stage.name, file=f"{stage.name}/{file.name}")
    snapshot |= dict(iteration=content["meta"]["iter"], metric=None, score=None)
    if found := re.fullmatch(r"best_(.+)_iter_\d+", file.stem):
        info, metric = content["message_hub"]["runtime_info"], found[1]
        score = info.get("best_score", info.get(f"best_score_{metric}"))
        snapshot |= dict(metric=metric, score=float(score))
    return snapshot


# --- the record -------------------------------------------------------------------------------


def read_record(stages: list[Stage], folder: Path) -> list[dict[str, Any]]:
    """The best snapshots of the stages that are done, by ``stages.json``.

    Raises:
        UserError: the folder is of another chain or of one with other settings.
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
    """Refuse to go on with a stage by other settings than it was begun with."""
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
