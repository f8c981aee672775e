"""Figure of the demo's training step beside busy processes.

Theirs is the same tool with OpenMP's default, where a thread that waits for another spins and so
occupies a core that the other may need.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import torch
from common import WAITING
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

from fcn_plugin.prepare.shapes import write_shapes
from figures.framework import Figure, Result, Row, Setting, alternate, quartiles

TRAIN = Path(__file__).parents[2] / "tools" / "train.py"
CONFIG = Path(__file__).parents[2] / "configs" / "fcn8s_vgg16_shapes.py"
QUIET = dict(check=True, capture_output=True)
# In mmcv-lite the compiled operators are missing; here any name is one.
BARE = """
import sys, types
operators = type("Operators", (types.ModuleType,), dict(__getattr__=lambda self, name: None))
sys.modules["mmcv._ext"] = operators("mmcv._ext")
import torch, mmseg.apis
"""
BUSY = (0, 2, 4, 8)
# Steps of a run; the first ones also initialise libraries and are not counted.
STEPS, WARM_UP = 12, 4
IMAGES = 64
# libgomp's default: about 3 ms of spinning.
SPINNING = {"GOMP_SPINCOUNT": "300000"}


def first_prediction(setting: Setting, repeats: int) -> Result:
    """Seconds from the command to the labels of one picture, and of the bare imports."""
    with tempfile.TemporaryDirectory(prefix="first_prediction") as folder:
        picture, checkpoint = Path(folder, "picture.png"), Path(folder, "network.pth")
        Image.effect_noise((500, 375), 99).convert("RGB").save(picture)
        init_default_scope("mmseg")
        network = MODELS.build(Config.fromfile(CONFIG).model)
        torch.save(dict(state_dict=network.state_dict(), meta={}), checkpoint)
        command = ["predict", CONFIG.stem, checkpoint, picture, "--out", Path(folder, "out")]
        commands = ("-m", "fcn_plugin", *command), ("-c", BARE)
        calls = [partial(subprocess.run, [sys.executable, *words], **QUIET) for words in commands]
        ours, theirs = alternate(calls, repeats, setting.device)
    spread = (quartiles(ours), quartiles(theirs))
    return Result((Row("time", median(ours), "s", median(theirs), spread),))


def shared_cores(setting: Setting, repeats: int) -> Result:
    """Seconds of a step for each number of busy processes; the two sides alternate."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="shared_cores") as folder:
        data = Path(folder, "shapes")
        write_shapes(data, train=IMAGES, val=1)
        for busy in BUSY[:1] if setting.quick else BUSY:
            ours, theirs = [], []
            for _ in range(repeats):
                with busy_processes(busy):
                    ours += step_times(data, {})
                    theirs += step_times(data, SPINNING)
            spread = (quartiles(ours), quartiles(theirs))
            rows.append(Row(f"beside {busy} busy", median(ours), "s", median(theirs), spread))
    return Result(tuple(rows))


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: 0"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def step_times(data: Path, environment: dict[str, str]) -> list[float]:
    """Seconds of each step of tools/train.py on the shapes in ``data``, without warm-up."""
    options = dict.fromkeys(("train_cfg.max_iters", "param_scheduler.1.end"), STEPS)
    options |= {"param_scheduler.0.end": WARM_UP, "param_scheduler.1.begin": WARM_UP}
    options |= {"default_hooks.logger.interval": 1, "train_cfg.val_interval": STEPS}
    for name in ("train", "val"):
        options[f"{name}_dataloader.dataset.data_root"] = data
    settings = [f"{key}={value}" for key, value in options.items()]
    # Importing tools/common.py has set these variables in this process, too.
    unset = {name: value for name, value in os.environ.items() if name not in WAITING}
    with tempfile.TemporaryDirectory(dir=data.parent) as work_dir:
        command = [sys.executable, TRAIN, CONFIG, "--work-dir", work_dir, "--cfg-options"]
        subprocess.run(
            [*command, *settings], env=unset | environment, check=True, capture_output=True
        )
        (scalars,) = Path(work_dir).glob("*/vis_data/scalars.json")
        lines = map(json.loads, scalars.read_text().splitlines())
        # mmengine's "time" is the mean of an interval, here of one step.
        return [line["time"] for line in lines if line.get("step", 0) > WARM_UP and "loss" in line]


FIRST = ("predict one picture", "tools", "import torch, mmseg.apis")
SHARED = ("demo step, shared cores", "shared", "threads that spin while they wait")
FIGURES = [
    Figure(*FIRST, reading=first_prediction),
    Figure(*SHARED, reading=shared_cores, repeats=2),
]
