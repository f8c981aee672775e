"""Convert published weights into a checkpoint.

fcn-plugin convert_weights SOURCE TARGET
"""

import argparse
from pathlib import Path

from common import next_step, quiet_host, run, show


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Sources, recognised by their content: caffemodels of FCN-32s, 16s, 8s, 8s at once, "
        "FCN-AlexNet and FCN-GoogLeNet and of the classifiers they start from; torchvision's VGG, "
        "AlexNet and GoogLeNet; justincj's VGG16; pytorch-fcn's files; fcn_plugin's checkpoints. "
        "PyTorch's files may be safetensors.",
    )
    parser.add_argument("source", type=Path, help="file with weights, e.g. a .caffemodel or .pth")
    parser.add_argument(
        "target", type=Path, help="checkpoint to write, e.g. fcn8s.pth or .safetensors"
    )
    parser.add_argument(
        "--net",
        choices=("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"),
        help="network to make; default: the source's own. Score layers that it lacks start at zero",
    )
    parser.add_argument(
        "--dataset",
        metavar="TYPE",
        help="score the classes of this data set of mmseg, e.g. CamVidDataset",
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="N",
        help="score this many classes; score layers of another number start anew",
    )
    args = parser.parse_args()
    if args.num_classes is not None and args.num_classes < 1:
        parser.error("--num-classes: at least 1")
    return args


def main() -> None:
    args = parse_args()
    quiet_host()

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.conversion.convert import convert
    from fcn_plugin.system.progress import progress_bar

    with progress_bar() as progress:
        conversion = convert(
            args.source, args.target, args.net, args.dataset, args.num_classes, progress
        )
    show(conversion)
    show(f"Done: {args.target} holds {conversion.summary}")
    if conversion.config:
        show(next_step("test", conversion.config, args.target))
    else:
        show(f"Next: name it in a config: load_from={str(args.target)!r}")


if __name__ == "__main__":
    run(main)
