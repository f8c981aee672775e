"""What of the paper holds on CamVid: train its variants alike, and compare them on val.

Every row sees the same number of crops, by fcn-plugin train. A run that was interrupted goes on,
and one on record is not repeated. Needs CamVid under data/ (fcn-plugin prepare_data camvid), and
for EfficientNet-Lite0 timm and a file of weights (docs/mixing.md).

python benchmarks/claims.py 8s 32s --seeds 0
python benchmarks/claims.py --table
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from common import run, show, write_json
from parsing import ToolParser

TOOLS = Path(__file__).parents[1] / "tools"
RECORD = Path(__file__).with_suffix(".json")
IMAGES = 800  # crops that each row sees
FEWEST = 48  # so that each of three stages has a warm-up
ALIKE = ("images", "amp")  # options that all runs of a record share
CROP = "(192, 256)"
BATCH = 2
VGG = "fcn{}_vgg16-convs_camvid"
LITE = "{}_efficientnet-lite0_camvid"
NEW = ("decode_head", "fc6", "fc7")  # without weights from ImageNet, and with higher rates


SCRATCH = "model.backbone.init_cfg=None"


@dataclass(frozen=True)
class Row:
    """One line of the table: configs, trained one after another, and settings of all of them."""

    title: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    batch: int = BATCH
    against: str = "8s"


def vgg(title: str, *options: str, net: str = "8s", **settings) -> Row:
    return Row(title, (VGG.format(net),), options, **settings)


ROWS = {
    "8s": vgg("FCN-8s at once"),
    "16s": vgg("FCN-16s at once", net="16s"),
    "32s": vgg("FCN-32s (no skip)", net="32s"),
    "stages": Row(
        "FCN-8s in stages, a third of the crops each",
        tuple(VGG.format(net) for net in ("32s", "16s", "8s")),
    ),
    "deconv": vgg("upsampling learned", "model.decode_head.upsample=deconv"),
    "nearest": vgg("upsampling nearest", "model.decode_head.upsample=nearest"),
    "reference": vgg("the reference's padding", "model.backbone.padding=reference"),
    "heavy": Row(
        "heavy recipe: batch 1, momentum 0.99, summed loss",
        (VGG.format("8s") + "-heavy",),
        ("optim_wrapper.optimizer.lr=3.8e-10",),  # the published rate a pixel
        batch=1,
    ),
    "heavy10": Row(
        "heavy recipe at 10 times its rate",
        (VGG.format("8s") + "-heavy",),
        ("optim_wrapper.optimizer.lr=3.8e-9",),
        batch=1,
    ),
    "unscaled": Row(
        "heavy recipe without the scales of pool3 and pool4",
        (VGG.format("8s") + "-heavy",),
        ("optim_wrapper.optimizer.lr=3.8e-10", "model.decode_head.scale=None"),
        batch=1,
    ),
    # All layers are new, and have one rate.
    "scratch": vgg(
        "from scratch",
        SCRATCH,
        "optim_wrapper.optimizer.lr=3e-4",
        *(f"optim_wrapper.paramwise_cfg.custom_keys.{key}.lr_mult=1.0" for key in NEW),
    ),
    "lite0-skip": Row(
        "EfficientNet-Lite0, skip fusion", (LITE.format("fcn8s"),), against="lite0-skip"
    ),
    "lite0-fcn": Row(
        "EfficientNet-Lite0, mmseg's FCNHead", (LITE.format("fcn"),), against="lite0-skip"
    ),
    "lite0-segformer": Row(
        "EfficientNet-Lite0, SegformerHead", (LITE.format("segformer"),), against="lite0-skip"
    ),
}


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("runs").add_argument
    add("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default all")
    seeds = "a run of each row for each; default 0 1 2"
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help=seeds)
    images = f"crops seen by each row; default {IMAGES}"
    add("--images", type=int, default=IMAGES, metavar="N", help=images)
    weights = "VGG16's convolutions; default: those of the configs"
    add("--weights", type=Path, metavar="FILE", help=weights)
    add = parser.group("what is written").add_argument
    out = "folder of the runs; default work_dirs/claims"
    add("--out", type=Path, default=Path("work_dirs/claims"), metavar="DIR", help=out)
    record = f"finished runs; default {RECORD.name}"
    add("--record", type=Path, default=RECORD, metavar="FILE", help=record)
    add("--table", action="store_true", help="train nothing, print the table of the record")
    add = parser.group("machine").add_argument
    add("--amp", action="store_true", help="mixed precision, in training and in scoring")
    jobs = "runs at a time, which share the cores; default 1"
    add("--jobs", type=int, default=1, metavar="N", help=jobs)
    args = parser.parse_args()
    args.rows = args.rows or list(ROWS)
    if args.jobs < 1 or args.images < FEWEST:
        parser.error(f"--jobs: at least 1; --images: at least {FEWEST}")
    if unknown := [row for row in args.rows if row not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; rows are {', '.join(ROWS)}")
    return args


def main() -> None:
    args = parse_args()
    record = json.loads(args.record.read_text()) if args.record.is_file() else {}
    if not args.table:
        wanted = [(row, seed) for seed in args.seeds for row in args.rows]
        runs = [run for run in wanted if not on_record(*run, record, args)]
        with ThreadPoolExecutor(args.jobs) as pool:
            done = pool.map(lambda run: train(*run, args), runs)
            for number, ((row, seed), result) in enumerate(zip(runs, done, strict=True), start=1):
                record.setdefault(row, {})[str(seed)] = result
                write_json(args.record, record)
                score = f"mean IU {result['mIoU']:.2f}"
                show(f"{number} of {len(runs)}: {row}, seed {seed}: {score}", flush=True)
    show(table(record))


def on_record(row: str, seed: int, record: dict[str, Any], args: argparse.Namespace) -> bool:
    """Whether a run is on record.

    Raises:
        UserError: it is, with other options than now.
    """
    from fcn_plugin.errors import UserError

    result = record.get(row, {}).get(str(seed))
    for name in ALIKE if result else ():
        if result.get(name) != getattr(args, name):
            raise UserError(
                f"{args.record}: {row}, seed {seed} was trained with {name}={result.get(name)}, "
                f"not {getattr(args, name)}; set it back, or give another --record and --out"
            )
    return result is not None


def train(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one row from one seed, unless its folder has it finished; its result."""
    from fcn_plugin.errors import UserError
    from fcn_plugin.system.machine import available_cores

    folder, configs = args.out / row / f"seed-{seed}", ROWS[row].configs
    options = settings(ROWS[row], seed, args)
    origin = begun(folder, options)
    if (result := result_of(row, folder, args)) is None:
        tool = "train.py" if len(configs) == 1 else "train_stages.py"
        command = [sys.executable, TOOLS / tool, *configs, "--work-dir", folder]
        command += ["--resume"] * (len(configs) == 1) + ["--amp"] * args.amp
        command += ["--cfg-options", *options]
        threads = str(max(1, available_cores() // args.jobs))
        show(f"{row}, seed {seed}: output goes to {folder / 'output.txt'}", flush=True)
        with open(folder / "output.txt", "a") as output:
            subprocess.run(
                [str(part) for part in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(OMP_NUM_THREADS=threads),
                check=False,
            )
        result = result_of(row, folder, args)
    if result is None:
        raise UserError(f"{folder}: not trained to the end; {folder / 'output.txt'} says why")
    return result | {name: getattr(args, name) for name in ALIKE} | origin


def begun(folder: Path, options: list[str]) -> dict[str, str]:
    """Machine and commit that the run in a folder was begun with, which it keeps there.

    Raises:
        UserError: it was begun with other options.
    """
    from fcn_plugin.errors import UserError
    from fcn_plugin.report.origin import versions
    from fcn_plugin.system.machine import available_cores, processor_name

    file = folder / "begun.json"
    if not file.is_file():
        machine = f"{available_cores()} cores, {processor_name()}"
        origin = dict(machine=machine, fcn_plugin=versions()["fcn_plugin"])
        write_json(file, dict(options=options, origin=origin))
    before = json.loads(file.read_text())
    if changed := sorted(set(before["options"]) ^ set(options)):
        raise UserError(
            f"{folder}: was begun with other options, which differ in {changed[0]}; set them back, "
            "or give another --out"
        )
    return before["origin"]


def iterations(row: Row, args: argparse.Namespace) -> int:
    """Of each of the row's configs."""
    return args.images // row.batch // len(row.configs)


def settings(row: Row, seed: int, args: argparse.Namespace) -> list[str]:
    """The same crops for every row, scored once, at the end."""
    steps = iterations(row, args)
    options = [
        f"randomness.seed={seed}",
        f"train_cfg.max_iters={steps}",
        f"train_cfg.val_interval={steps}",
        f"default_hooks.checkpoint.interval={steps // 4}",
        "default_hooks.checkpoint.max_keep_ckpts=1",
        f"val_cfg.fp16={args.amp}",
        f"train_dataloader.batch_size={row.batch}",
        f"train_dataloader.dataset.pipeline.3.crop_size={CROP}",
        f"model.data_preprocessor.size={CROP}",
        # Neither the paper's loss has them, nor can mmseg's heads have them beside ignored pixels.
        "model.decode_head.loss_decode.class_weight=None",
        *row.options,
    ]
    if not row.configs[0].endswith("-heavy"):  # its rate is fixed
        warm = steps // 8
        options += [f"param_scheduler.0.end={warm}", f"param_scheduler.1.begin={warm}"]
        options += [f"param_scheduler.1.end={steps}"]
    if args.weights and "vgg16" in row.configs[0] and SCRATCH not in row.options:
        options += [f"model.backbone.init_cfg.checkpoint={args.weights}"]
    return options


def result_of(row: str, folder: Path, args: argparse.Namespace) -> dict[str, Any] | None:
    """The mean IU at the end of a finished run, and how long it was trained."""
    from fcn_plugin.report.logs import read_training

    configs = ROWS[row].configs
    stages = [folder] if len(configs) == 1 else [folder / name for name in configs]
    trainings = [read_training(stage) for stage in stages]
    score = dict(trainings[-1].curve("mIoU")).get(iterations(ROWS[row], args))
    if score is None:
        return None
    minutes = round(sum(training.seconds for training in trainings) / 60, 1)
    return dict(mIoU=score, minutes=minutes)


def table(record: dict[str, dict[str, Any]]) -> str:
    """Mean and standard deviation over seeds, and of the differences seed by seed."""
    lines = ["| | seeds | mean IU on val | difference |", "|---|---|---|---|"]
    for name, row in ROWS.items():
        runs, others = record.get(name, {}), record.get(row.against, {})
        if not runs:
            continue
        paired = sorted(runs.keys() & others.keys())
        gaps = [runs[seed]["mIoU"] - others[seed]["mIoU"] for seed in paired]
        whole = spread([run["mIoU"] for run in runs.values()])
        gap = "" if name == row.against else spread(gaps, "+")
        lines.append(f"| {row.title} | {len(runs)} | {whole} | {gap} |")
    return "\n".join(lines)


def spread(values: list[float], sign: str = "") -> str:
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.1f}{deviation}"


if __name__ == "__main__":
    run(main)
