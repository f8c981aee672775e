"""What networks cost: parameters, operations of an image, time and memory of a training step.

Each network has random weights and the optimizer, batch and crop of its config; the images are
random. GFLOP are of the convolutions and matrix products of one image's forward pass, two for a
multiplication and an addition. Memory is the peak of a step beyond the weights and the optimizer's
state. The steps of all configs alternate in one process; times are medians. Nothing else should
run beside it.

python benchmarks/costs.py fcn8s_vgg16_camvid --image 360 480
python benchmarks/costs.py fcn8s_vgg16_voc psp_vgg16_voc --device cuda
"""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tools"))

from common import run
from parsing import ToolParser


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add = parser.group("networks").add_argument
    add("configs", nargs="+", metavar="CONFIG", help="files, or names of shipped configs")
    side = "height and width to count operations at; default 512 512"
    add("--image", nargs=2, type=int, default=(512, 512), metavar=("H", "W"), help=side)
    add = parser.group("machine").add_argument
    add("--device", default="cpu", metavar="NAME", help="cpu, the default, or cuda")
    dtype = "precision of the steps: float32, the default, or bfloat16"
    choices = ["float32", "bfloat16"]
    add("--dtype", choices=choices, default="float32", metavar="TYPE", help=dtype)
    add("--repeats", type=int, default=10, metavar="N", help="timed steps; default 10")
    args = parser.parse_args()
    if args.repeats < 1 or min(args.image) < 1:
        parser.error("--repeats and --image: at least 1")
    return args


def main() -> None:
    args = parse_args()
    import torch

    from figures.costs import measured, table
    from figures.framework import Setting, alternate
    from figures.machine import describe
    from figures.table import progress

    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    device = torch.device(args.device)
    setting = Setting(device, getattr(torch, args.dtype))
    machine = describe(device)
    networks = []
    for name in args.configs:
        with progress(f"size of {name}"):
            networks.append(measured(name, setting, (args.image[0], args.image[1])))
    steps = tuple(network.step for network in networks)
    with progress(f"{args.repeats} steps of each"):
        times = alternate(steps, args.repeats, device)
    print(f"{machine.get('gpu') or machine['cpu']}, {machine['threads']} threads")
    print(f"torch {machine['torch']}, steps in {args.dtype}\n")
    print(table(networks, times, args.image))
    print(f"\nDone: {len(networks)} configs")


if __name__ == "__main__":
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # hides messages of torch's profiler
    run(main)
