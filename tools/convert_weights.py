"""Convert published weights into a checkpoint, or publish those of a run.

fcn-plugin convert_weights SOURCE TARGET
fcn-plugin convert_weights --prototxt deploy.prototxt FILE.caffemodel [TARGET]
fcn-plugin convert_weights --publish RUN FOLDER/NAME.safetensors
"""

import argparse
from pathlib import Path

from common import next_step, quiet_host, run, say_threads, show

LICENCES = {
    "--licence": "the licence of the weights, for hubs an SPDX identifier, e.g. apache-2.0",
    "--data-licence": "the licence of the pictures and labels that were trained on",
    "--initial-licence": "the licence of the weights that the training started from",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Sources, recognised by their content: caffemodels of FCN-32s, 16s, 8s, 8s at once, "
        "SIFT Flow's and NYUDv2's, FCN-AlexNet and FCN-GoogLeNet and of the classifiers they start "
        "from; torchvision's VGG, AlexNet and GoogLeNet; justincj's VGG16; the FCNs of "
        "pytorch-fcn, pytorch-semseg and torchvision; VGG of MatConvNet (.mat), Keras (.h5), "
        "Chainer and TensorFlow (.npz, .npy); fcn_plugin's checkpoints. PyTorch's files may be "
        "safetensors.",
    )
    parser.add_argument("source", type=Path, help="file with weights, e.g. a .caffemodel or .pth")
    parser.add_argument(
        "target",
        type=Path,
        nargs="?",
        help="checkpoint to write, e.g. fcn8s.pth or .safetensors; with --prototxt it may be left "
        "out, to check SOURCE alone",
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
    parser.add_argument(
        "--prototxt",
        type=Path,
        metavar="FILE",
        help="of a caffemodel: the description of its network (deploy, val or train_val.prototxt). "
        "It is checked against the file layer by layer, and an FCN on VGG that is none of the "
        "published ones gets a config of its own, TARGET.py",
    )
    parser.add_argument(
        "--input",
        choices=("nyud-color", "nyud-hha"),
        help="what a network of NYUDv2's 40 classes was trained on, if its file does not say",
    )
    parser.add_argument(
        "--late-fusion",
        type=Path,
        metavar="SECOND",
        help="another such file: the target gets two streams, the first on the channels of "
        "source's input, the second on those of SECOND's, whose scores are averaged",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="of a run's work dir (its best checkpoint, else its last) or a checkpoint in it: "
        "write the weights alone to NAME-HASH.safetensors, with the config (config.py) and a model "
        "card (README.md) beside it",
    )
    parser.add_argument(
        "--half",
        action="store_true",
        help="of --publish: kernels and matrices in float16, which halves the file; biases, norms "
        "and counters stay as they are",
    )
    for option, what in LICENCES.items():
        parser.add_argument(option, metavar="TEXT", default="unknown", help=f"of --publish: {what}")
    args = parser.parse_args()
    if args.num_classes is not None and args.num_classes < 1:
        parser.error("--num-classes: at least 1")
    if args.target is None and not args.prototxt:
        parser.error("the following arguments are required: target")
    if args.publish and args.prototxt:
        parser.error("--publish is of a run, --prototxt of a caffemodel; give one of them")
    changes = (args.net, args.dataset, args.num_classes, args.late_fusion)
    for option in ("publish", "prototxt"):
        if getattr(args, option) and any(changes):
            parser.error(
                f"--{option} takes a network as it is: without --net, --dataset, --num-classes, "
                "--late-fusion"
            )
    if args.publish and args.input:
        parser.error("--input is of a file to convert, --publish of a run; give one of them")
    licences = {args.licence, args.data_licence, args.initial_licence}
    if not args.publish and (args.half or licences != {"unknown"}):
        parser.error("--half and licences belong to --publish")
    return args


def main() -> None:
    args = parse_args()
    quiet_host()
    say_threads()
    if args.publish:
        publish_run(args)
    elif args.prototxt:
        convert_described(args)
    else:
        convert_file(args)


def publish_run(args: argparse.Namespace) -> None:
    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.publish.card import Licences
    from fcn_plugin.publish.lean import publish
    from fcn_plugin.system.progress import progress_bar

    licences = Licences(args.licence, args.data_licence, args.initial_licence)
    with progress_bar() as progress:
        published = publish(args.source, args.target, args.half, licences, progress)
    file = published.file
    for result in published.results:
        words = "  ".join(f"{name} {value:.2f}" for name, value in result.scores.items())
        show(f"{result.dataset}: {words} ({result.origin})")
    for gap in published.unknown:
        show(f"unknown in {file.with_name('README.md')}: {gap}")
    size, before = (path.stat().st_size / 1e6 for path in (file, published.checkpoint))
    show(f"Done: {file}, {size:.1f} MB of {published.checkpoint}'s {before:.1f} MB")
    show(next_step("publish", "push", file.parent, "OWNER/NAME"))


def convert_described(args: argparse.Namespace) -> None:
    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.conversion.caffe.described import DescribedConversion
    from fcn_plugin.system.progress import progress_bar

    with progress_bar() as progress:
        conversion = DescribedConversion(args.source, args.prototxt, progress, args.input)
        config = conversion.write(args.target, progress) if args.target else None
    show(conversion)
    if args.target is None:
        show(f"Done: {args.source} holds {conversion.summary}; nothing was written")
        command = "convert_weights", "--prototxt", args.prototxt, args.source, "TARGET.pth"
    elif config is None:
        show(f"Done: {args.target} holds {conversion.summary}")
        command = "test", conversion.config, args.target
    else:
        show(f"Done: {args.target} holds {conversion.summary}; config: {config}")
        command = "predict", config, args.target, "IMAGE", "--out", "predictions"
    show(next_step(*command))


def convert_file(args: argparse.Namespace) -> None:
    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.conversion.convert import convert
    from fcn_plugin.system.progress import progress_bar

    with progress_bar() as progress:
        conversion = convert(
            *(args.source, args.target, args.net, args.dataset, args.num_classes, progress),
            trained_on=args.input,
            second=args.late_fusion,
        )
    show(conversion)
    show(f"Done: {args.target} holds {conversion.summary}")
    if not conversion.config:
        show(f"Next: name it in a config: load_from={str(args.target)!r}")
    elif any(name.startswith("decode_head.score.") for name in conversion.report.new):
        options = (f"load_from={args.target}", "model.backbone.init_cfg=None")
        show(next_step("train", conversion.config, "--cfg-options", *options))
    else:
        show(next_step("test", conversion.config, args.target))


if __name__ == "__main__":
    run(main)
