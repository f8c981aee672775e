"""What of the paper holds on CamVid: train its variants alike and compare them on val.

    benchmarks/claims.py                      # every row, seeds 0, 1 and 2
    benchmarks/claims.py 8s 32s --seeds 0     # some of them
    benchmarks/claims.py --table              # only the table of the runs on record

Every row sees the same number of crops, by fcn-plugin train. A run that was interrupted goes on,
and one on record is not repeated. Needs CamVid under data/ (fcn-plugin prepare_data camvid).
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

TOOLS = Path(__file__).parents[1] / "tools"
RECORD = Path(__file__).with_suffix(".json")
IMAGES = 800  # crops that each row sees
CROP = "(192, 256)"
BATCH = 2
VGG = "fcn{}_vgg16-convs_camvid"
LITE = "{}_efficientnet-lite0_camvid"


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
    "scratch": vgg("from scratch", "model.backbone.init_cfg=None"),
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
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default all")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--jobs", type=int, default=1, help="runs at a time, which share the cores")
    add("--amp", action="store_true", help="mixed precision, in training and in scoring")
    add("--images", type=int, default=IMAGES, help=f"crops seen by each row; default {IMAGES}")
    add("--weights", type=Path, help="VGG16's convolutions; default: those of the configs")
    add("--out", type=Path, default=Path("work_dirs/claims"), help="folder of the runs")
    add("--record", type=Path, default=RECORD, help=f"finished runs; default {RECORD.name}")
    add("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    args.rows = args.rows or list(ROWS)
    if unknown := [row for row in args.rows if row not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; rows are {', '.join(ROWS)}")
    return args


def main() -> None:
    args = parse_args()
    record = json.loads(args.record.read_text()) if args.record.is_file() else {}
    if not args.table:
        wanted = [(row, seed) for seed in args.seeds for row in args.rows]
        runs = [run for run in wanted if str(run[1]) not in record.get(run[0], {})]
        with ThreadPoolExecutor(args.jobs) as pool:
            done = pool.map(lambda run: train(*run, args), runs)
            for number, ((row, seed), result) in enumerate(zip(runs, done, strict=True), start=1):
                record.setdefault(row, {})[str(seed)] = result
                write_json(args.record, record)
                show(f"{number} of {len(runs)}: {row}, seed {seed}: mean IU {result['mIoU']:.2f}")
    show(table(record))


def train(row: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one row from one seed, unless its folder has it finished; its result."""
    from fcn_plugin.errors import UserError

    folder = args.out / row / f"seed-{seed}"
    if (result := result_of(row, folder)) is None:
        configs = ROWS[row].configs
        tool = "train.py" if len(configs) == 1 else "train_stages.py"
        command = [sys.executable, TOOLS / tool, *configs, "--work-dir", folder]
        command += ["--resume"] * (len(configs) == 1) + ["--amp"] * args.amp
        command += ["--cfg-options", *settings(ROWS[row], seed, args)]
        threads = str(max(1, (os.cpu_count() or 1) // args.jobs))
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "output.txt", "a") as output:
            subprocess.run(
                [str(part) for part in command],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | dict(OMP_NUM_THREADS=threads),
                check=False,
            )
        result = result_of(row, folder)
    if result is None:
        raise UserError(f"{folder}: not trained to the end; {folder / 'output.txt'} says why")
    return result


def settings(row: Row, seed: int, args: argparse.Namespace) -> list[str]:
    """The same crops for every row, scored once, at the end."""
    iterations = args.images // row.batch // len(row.configs)
    options = [
        f"randomness.seed={seed}",
        f"train_cfg.max_iters={iterations}",
        f"train_cfg.val_interval={iterations}",
        f"default_hooks.checkpoint.interval={iterations}",
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
        warm = iterations // 8
        options += [f"param_scheduler.0.end={warm}", f"param_scheduler.1.begin={warm}"]
        options += [f"param_scheduler.1.end={iterations}"]
    if args.weights and "vgg16" in row.configs[0] and "init_cfg=None" not in str(row.options):
        options += [f"model.backbone.init_cfg.checkpoint={args.weights}"]
    return options


def result_of(row: str, folder: Path) -> dict[str, Any] | None:
    """The mean IU at the end of a finished run, and where and how long it was trained."""
    from fcn_plugin.report.logs import read_training
    from fcn_plugin.report.origin import versions
    from fcn_plugin.system.machine import available_cores, processor_name

    configs = ROWS[row].configs
    stages = [folder] if len(configs) == 1 else [folder / name for name in configs]
    trainings = [read_training(stage) for stage in stages]
    scores = dict(trainings[-1].curve("mIoU"))
    if (last := trainings[-1].last_step) not in scores:
        return None
    return dict(
        mIoU=scores[last],
        minutes=round(sum(training.seconds for training in trainings) / 60, 1),
        machine=f"{available_cores()} cores, {processor_name()}",
        fcn_plugin=versions()["fcn_plugin"],
    )


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
