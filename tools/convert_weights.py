"""Convert published weights, or publish those of a run.

Sources are recognised by their content; docs/weights.md lists them: caffemodels of FCNs and
classifiers, VGG and FCNs of PyTorch projects, MatConvNet, Keras, Chainer and TensorFlow, and
checkpoints of fcn_plugin.

fcn-plugin convert_weights fcn8s-heavy-pascal.caffemodel fcn8s.pth
fcn-plugin convert_weights --publish work_dirs/a published/fcn8s.safetensors
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import next_step, quiet_host, run, say_threads, show
from parsing import ToolParser

if TYPE_CHECKING:
    from fcn_plugin.conversion.network import Conversion
    from fcn_plugin.conversion.resnet import ResNetConversion

LICENCES = {
    "--licence": "licence of the weights, for hubs an SPDX identifier, e.g. apache-2.0",
    "--data-licence": "licence of the pictures and labels that were trained on",
    "--initial-licence": "licence of the weights that the training started from",
}


def parse_args() -> argparse.Namespace:
    parser = ToolParser(
        __doc__,
        forms=(
            "SOURCE TARGET",
            "--prototxt FILE SOURCE [TARGET]",
            "--publish RUN TARGET",
        ),
    )
    add = parser.group("files").add_argument
    add(
        "source",
        type=Path,
        metavar="SOURCE",
        help=".caffemodel, .pth, .safetensors, .mat, .h5, .npz or .npy; or a RUN",
    )
    add(
        "target",
        type=Path,
        nargs="?",
        metavar="TARGET",
        help="checkpoint to write, .pth or .safetensors; none: check only (--prototxt)",
    )
    add = parser.group("network").add_argument
    add(
        "--net",
        choices=("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce"),
        metavar="NET",
        help="fcn32s, fcn16s, fcn8s or fcn8s-atonce; default: the source's own. Score layers that "
        "it lacks start at zero",
    )
    add("--dataset", metavar="TYPE", help="classes of this data set of mmseg, e.g. CamVidDataset")
    add(
        "--num-classes",
        type=int,
        metavar="N",
        help="so many classes; score layers of another number start anew",
    )
    add(
        "--input",
        choices=("nyud-color", "nyud-hha"),
        metavar="INPUT",
        help="nyud-color or nyud-hha: what a network of NYUDv2's 40 classes saw",
    )
    add(
        "--late-fusion",
        type=Path,
        metavar="SECOND",
        help="another file: two streams, whose scores are averaged",
    )
    add(
        "--prototxt",
        type=Path,
        metavar="FILE",
        help="a caffemodel's description (deploy, val, train_val): checked layer by layer; an FCN "
        "on VGG of your own gets a config, TARGET.py",
    )
    add = parser.group("publishing").add_argument
    add(
        "--publish",
        action="store_true",
        help="a RUN, a work dir or a checkpoint in it: its weights alone, in TARGET with a hash in "
        "its name; beside it config.py and a model card, README.md",
    )
    add(
        "--half",
        action="store_true",
        help="kernels and matrices in float16; biases, norms and counters stay",
    )
    for option, what in LICENCES.items():
        add(option, metavar="TEXT", default="unknown", help=what)
    args = parser.parse_args()
    if args.num_classes is not None and args.num_classes < 1:
        parser.error("--num-classes: at least 1")
    if args.target is None and not args.prototxt:
        parser.error("the following arguments are required: TARGET")
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
        settings = f"load_from={str(args.target)!r}, model={in_python(model_settings(conversion))}"
        show(f"Next: name it in a config: {settings}")
    elif any(name.startswith("decode_head.score.") for name in conversion.report.new):
        options = (f"load_from={args.target}", "model.backbone.init_cfg=None")
        show(next_step("train", conversion.config, "--cfg-options", *options))
    else:
        show(next_step("test", conversion.config, args.target))


def model_settings(conversion: "Conversion | ResNetConversion") -> dict[str, Any]:
    """What a config of one's own must have to go on from this checkpoint."""
    meta = conversion.checkpoint()["meta"]
    backbone: dict[str, Any] = dict(init_cfg=None)
    # Of two streams each has its own.
    if "padding" in meta and not conversion.weights.layout.streams:
        backbone = dict(padding=meta["padding"]) | backbone
    model = dict(backbone=backbone)
    if input := conversion.weights.input:
        model = dict(data_preprocessor=input.preprocessor()) | model
    return model


def in_python(settings: Any) -> str:
    """As a config writes it: dict(a=1)."""
    if not isinstance(settings, dict):
        return repr(settings)
    return f"dict({', '.join(f'{key}={in_python(value)}' for key, value in settings.items())})"


if __name__ == "__main__":
    run(main)
