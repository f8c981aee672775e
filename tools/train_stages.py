"""Train networks one after another, each from the best snapshot of the one before.

python tools/train_stages.py    # the published FCN-32s, then 16s, then 8s
python tools/train_stages.py configs/fcn{32s,16s,8s}_vgg16_pascal-context-heavy.py

Each stage is tools/train.py in a process of its own, in the folder WORK_DIR/CONFIG. The same
command goes on after an interruption, wherever that was: WORK_DIR/stages.json tells what is done.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common import key_value, load_config, run, show

# fcn_plugin imports torch and the host, seconds that --help need not take: so it is imported where
# it is used.

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PUBLISHED = [CONFIGS / f"fcn{net}_vgg16_voc2011-heavy.py" for net in ("32s", "16s", "8s")]
TRAIN = Path(__file__).resolve().with_name("train.py")
# What decides how a stage ends; all else, the logs say, may change between two runs.
DECISIVE = (
    "model",
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "randomness",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
)
# Of the data loaders these two are the machine's business.
INDIFFERENT = ("num_workers", "persistent_workers")
LOCK_PATIENCE = 15  # seconds; the data loaders of a killed run take five to notice


@dataclass
class Snapshot:
    """A checkpoint, and what it says of itself."""

    file: Path
    iteration: int
    metric: str | None = None  # that it is the best by
    score: float | None = None

    def __str__(self) -> str:
        score = f"{self.metric} {self.score:.2f} " if self.score is not None else ""
        return f"{score}at iteration {self.iteration}, {self.file}"


@dataclass
class Stage:
    """One config of the chain."""

    config: Path
    folder: Path
    cfg: Any  # mmengine.Config

    @property
    def name(self) -> str:
        return self.config.stem

    @property
    def iterations(self) -> int:
        return int(self.cfg.train_cfg.max_iters)

    @property
    def settings(self) -> dict[str, str]:
        """What decides how the stage ends, by dotted name."""
        return dict(
            item
            for key in DECISIVE
            if self.cfg.get(key) is not None
            for item in _flat(self.cfg[key], key)
            if item[0].rpartition(".")[2] not in INDIFFERENT
        )


def _flat(node: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _flat(child, f"{path}.{key}")
    elif isinstance(node, list | tuple) and any(isinstance(child, dict) for child in node):
        for i, child in enumerate(node):
            yield from _flat(child, f"{path}.{i}")
    else:
        yield path, repr(list(node) if isinstance(node, tuple) else node)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train networks one after another, each from the best snapshot of the one "
        "before. The same command goes on after an interruption."
    )
    parser.add_argument(
        "configs",
        nargs="*",
        type=Path,
        metavar="CONFIG",
        default=PUBLISHED,
        help="configs in their order; default: "
        + ", ".join(f"configs/{path.name}" for path in PUBLISHED),
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        help="folder of the chain, with one folder for each stage; default "
        "work_dirs/LAST_CONFIG-stages",
    )
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision: float16 on a GPU, bfloat16 on the CPU"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        type=key_value,
        default=[],
        metavar="KEY=VALUE",
        help="override settings of every config, as in tools/train.py",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from fcn_plugin.system.locks import only_one_at_work

    folder = args.work_dir or Path(f"work_dirs/{args.configs[-1].stem}-stages")
    stages = read_stages(args, folder)
    # As if by Ctrl-C: the stage is to end as well.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with only_one_at_work(folder, LOCK_PATIENCE) as lock:
        train_stages(stages, folder, args, lock)


def read_stages(args: argparse.Namespace, folder: Path) -> list[Stage]:
    """All configs with the options; what is wrong with the last is better said before the first."""
    from fcn_plugin.checks.config import check_datasets, check_settings
    from fcn_plugin.errors import UserError

    stages: list[Stage] = []
    for config in args.configs:
        own = folder / config.stem
        # They go on to tools/train.py as the value of an option, a word of mmengine's own syntax.
        if altered := sorted(set(str(own)) & set(" ,'\"()[]")):
            raise UserError(
                f"{own}: mmengine's options cannot pass a path with {altered[0]!r} on; rename the "
                "config or choose another --work-dir, perhaps a relative one"
            )
        asked = argparse.Namespace(
            config=config,
            cfg_options=args.cfg_options,
            work_dir=str(own),
            launcher="none",
            local_rank=0,
        )
        stage = Stage(config, own, load_config(asked))
        if "max_iters" not in (stage.cfg.get("train_cfg") or {}):
            raise UserError(
                f"{config}: has no train_cfg.max_iters; a stage is so many iterations long"
            )
        if stage.folder in (other.folder for other in stages):
            raise UserError(f"{config}: {stage.name} is in the chain twice; rename one of them")
        if stages:
            check_fit(promised(stages[-1], stage), stage)
        check_settings(stage.cfg)
        check_datasets(stage.cfg, ("train_dataloader", "val_dataloader"))
        stages.append(stage)
    return stages


def model_of(stage: Stage) -> Any:
    """The model of a stage without any memory."""
    import torch
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope(stage.cfg.get("default_scope", "mmseg"))
    with torch.device("meta"):
        return MODELS.build(stage.cfg.model)


def net_of(stage: Stage) -> str:
    """Which of the published networks a config is."""
    from fcn_plugin.errors import UserError
    from fcn_plugin.weights import networks as nets

    net = nets.net_of(model_of(stage))
    if net is None:
        raise UserError(
            f"{stage.config}: cannot be a stage of a chain, which takes {', '.join(nets.NETS)}: a "
            "SkipFusionHead on the levels of one of our backbones"
        )
    return net


def promised(before: Stage, stage: Stage) -> dict[str, Any]:
    """What the stage before will hand on, by its shapes."""
    import torch

    from fcn_plugin.conversion.convert import Conversion
    from fcn_plugin.weights.recognise import recognise_tensors

    state = model_of(before).state_dict()
    # Of one number each, seen in the tensor's shape.
    empty = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in state.items()}
    net = net_of(before)
    weights = recognise_tensors(before.config, empty, dict(net=net))
    return Conversion(weights, net=net_of(stage)).state_dict


def train_stages(
    stages: list[Stage], folder: Path, args: argparse.Namespace, lock: Sequence[int]
) -> None:
    """Train what is not done yet, and hand each stage's best snapshot on."""
    record = Record(folder, stages, args)
    best: Snapshot | None = None
    for number, stage in enumerate(stages, start=1):
        title = f"stage {number} of {len(stages)}: {stage.name}"
        if number <= len(record.done):
            best = record.done[number - 1]
            say(f"{title}: done before, {best}")
            continue
        record.begin(stage)
        command = [sys.executable, TRAIN, stage.config, "--work-dir", stage.folder]
        # Scores the snapshot it goes on from, in case that was interrupted.
        options = [*args.cfg_options, "default_hooks.score_resumed.type=ScoreResumedHook"]
        if newest := newest_snapshot(stage.folder):
            say(f"{title}: goes on from iteration {newest.iteration} of {stage.iterations}")
            # With the option load_from the runner would resume from that instead.
            command += ["--resume", newest.file]
        else:
            say(f"{title}: {stage.iterations} iterations")
            if best:
                options.append(f"load_from={hand_on(best, stage)}")
        command += ["--amp"] * args.amp + ["--cfg-options", *options]
        train(command, title, lock)
        best = finished(stage, title)
        record.finish(best)
        say(f"{title}: done, {best}")
    assert best is not None
    say(f"Done: {len(stages)} of {len(stages)} stages; the last reached {best}")


def say(line: str) -> None:
    show(line, flush=True)


# --- one stage --------------------------------------------------------------------------------


def train(command: list, title: str, lock: Sequence[int]) -> None:
    from fcn_plugin.errors import UserError

    with subprocess.Popen([str(part) for part in command], pass_fds=lock) as process:
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
    if status == 0:
        return
    if status == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    how = f"exit status {status}" if status > 0 else signal.Signals(-status).name
    raise UserError(
        f"{title}: tools/train.py ended with {how}; put right what it says above, then give the "
        "same command again, which goes on from the last snapshot"
    )


def hand_on(best: Snapshot, stage: Stage) -> Path:
    """Write the weights that ``stage`` starts with, and return their file."""
    from fcn_plugin.conversion.convert import convert

    start = stage.folder / "start.pth"
    say(f"{stage.name}: starts from {best.file}")
    conversion = convert(best.file, start, net=net_of(stage))
    say(str(conversion))
    check_fit(conversion.state_dict, stage)
    return start


def check_fit(given: dict[str, Any], stage: Stage) -> None:
    """Refuse weights that are not exactly those of the stage's model; the host would only warn.

    Learned kernels, of another stride in every stage, start as bilinear.
    """
    from fcn_plugin.errors import UserError

    wanted = model_of(stage).state_dict()
    for name in sorted(wanted.keys() | given.keys()):
        has, needs = (
            tuple(state[name].shape) if name in state else None for state in (given, wanted)
        )
        if has != needs and not (has is None and name.endswith(".deconv.weight")):
            raise UserError(
                f"{stage.config}: does not continue the stage before, which gives {name} "
                f"{has or 'none'} where it needs {needs or 'none'}; make the widths and classes "
                "of both alike"
            )


def finished(stage: Stage, title: str) -> Snapshot:
    """The best snapshot of a stage whose training has ended, else its last."""
    from fcn_plugin.errors import UserError

    last = newest_snapshot(stage.folder)
    if last is None or last.iteration < stage.iterations:
        reached = f"iteration {last.iteration}" if last else "no snapshot"
        raise UserError(
            f"{title}: ended with {reached} instead of iteration {stage.iterations}; see "
            "default_hooks.checkpoint and the hooks that stop a training in the config"
        )
    hook = (stage.cfg.get("default_hooks") or {}).get("checkpoint") or {}
    metric = hook.get("save_best")
    metric = metric[0] if isinstance(metric, list | tuple) else metric
    any_metric = metric in (None, "auto")
    name = "best_*.pth" if any_metric else f"best_{metric.replace('/', '_')}_iter_*.pth"
    found = [read_snapshot(file) for file in sorted(stage.folder.glob(name))]
    # Several are there only if a run was killed while it replaced one by the next.
    scored = [best for best in found if best is not None and best.score is not None]
    return max(scored, key=lambda best: best.score or 0.0, default=last)


def newest_snapshot(folder: Path) -> Snapshot | None:
    """The last readable one to go on from; that being written when a run is killed is not."""
    files = {file: re.fullmatch(r"iter_(\d+)", file.stem) for file in folder.glob("iter_*.pth")}
    numbers = {file: int(match[1]) for file, match in files.items() if match}
    for file in sorted(numbers, key=lambda file: -numbers[file]):
        if snapshot := read_snapshot(file):
            return snapshot
    return None


def read_snapshot(file: Path) -> Snapshot | None:
    """What a checkpoint says of itself; None for one that is damaged, which is said."""
    from fcn_plugin.errors import UserError
    from fcn_plugin.weights.files import read_content, verify

    try:
        verify(file)
        content = read_content(file, mmap=True)
        iteration = content["meta"]["iter"]
        info = content["message_hub"]["runtime_info"]
    except (UserError, KeyError, TypeError) as fault:
        say(f"{file}: damaged, passed over ({fault})")
        return None
    named = re.fullmatch(r"best_(.+)_iter_\d+", file.stem)
    if named is None:
        return Snapshot(file, iteration)
    score = info.get("best_score", info.get(f"best_score_{named[1]}"))
    return Snapshot(file, iteration, named[1], score and float(score))


# --- the chain --------------------------------------------------------------------------------


class Record:
    """``stages.json``: the configs of the chain, and for each stage done its best snapshot.

    Beside it ``STAGE/settings.json``, the settings that a stage was begun with.
    """

    def __init__(self, folder: Path, stages: list[Stage], args: argparse.Namespace) -> None:
        self.file = folder / "stages.json"
        self.folder = folder
        self.names = [stage.name for stage in stages]
        self.amp = args.amp
        self.done: list[Snapshot] = []
        if self.file.is_file():
            self._go_on(json.loads(self.file.read_text()))
        for number, stage in enumerate(stages):
            if number < len(self.done) or _has_snapshots(stage.folder):
                self._check_settings(stage)

    def _go_on(self, content: dict) -> None:
        """Take over what was done, unless that was another chain."""
        from fcn_plugin.errors import UserError

        before = content["configs"]
        begun = content["done"] or any(_has_snapshots(self.folder / name) for name in before)
        if begun and before != self.names[: len(before)]:
            raise UserError(
                f"{self.file}: of the chain {', '.join(before)}, not of {', '.join(self.names)}; "
                "give the same configs, or another --work-dir"
            )
        for entry in content["done"]:
            entry = {key: value for key, value in entry.items() if key != "config"}
            snapshot = Snapshot(**dict(entry, file=self.folder / entry["file"]))
            if not snapshot.file.is_file():
                raise UserError(
                    f"{snapshot.file}: the best snapshot of a finished stage is gone; put it back, "
                    "or give another --work-dir"
                )
            self.done.append(snapshot)

    def _check_settings(self, stage: Stage) -> None:
        """Refuse to go on with a stage by other settings than it was begun with."""
        from fcn_plugin.errors import UserError

        file = _settings_file(stage)
        if not file.is_file():
            raise UserError(
                f"{stage.folder}: has checkpoints of another run; give another --work-dir, or "
                "delete them"
            )
        now, before = self._settings(stage), json.loads(file.read_text())
        for key in sorted(now.keys() | before.keys()):
            if now.get(key) != before.get(key):
                raise UserError(
                    f"{stage.folder}: was begun with {key}={before.get(key, '(none)')}, which is "
                    f"{now.get(key, '(none)')} now; set it back, or give another --work-dir"
                )

    def _settings(self, stage: Stage) -> dict[str, str]:
        return stage.settings | {"--amp": str(self.amp)}

    def begin(self, stage: Stage) -> None:
        stage.folder.mkdir(parents=True, exist_ok=True)
        self._write()
        _write_json(_settings_file(stage), self._settings(stage))

    def finish(self, best: Snapshot) -> None:
        self.done.append(best)
        self._write()

    def _write(self) -> None:
        # The folder may be moved, so files are given from it on.
        done = [
            dict(config=name, **asdict(best) | dict(file=str(best.file.relative_to(self.folder))))
            for name, best in zip(self.names, self.done, strict=False)
        ]
        _write_json(self.file, dict(configs=self.names, done=done))


def _has_snapshots(folder: Path) -> bool:
    return any(folder.glob("iter_*.pth"))


def _settings_file(stage: Stage) -> Path:
    return stage.folder / "settings.json"


def _write_json(file: Path, content: dict) -> None:
    """All or nothing, whenever it is interrupted."""
    from fcn_plugin.system.files import replacing

    with replacing(file) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
