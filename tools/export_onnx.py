"""Export a network to ONNX, compared with PyTorch.

The file takes RGB images of any size, as image files hold them, and returns labels in the data
set's own numbers: preprocessing and crops are inside. The network sees the whole image, even if the
config has sliding windows. docs/export.md describes inputs, outputs and metadata.

fcn-plugin export_onnx fcn8s_vgg16_shapes work_dirs/a shapes.onnx
fcn-plugin export_onnx fcn8s_vgg16_voc voc.pth voc.onnx --size 500 500
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

from common import add_cfg_options, add_network, add_task, load_config, next_step, run, show
from parsing import ToolParser

LEAST_IDENTICAL = 0.9999  # fraction of the pixels with equal labels
FILES_AND_FORM = ("Load", "Pack", "FastPack")  # first words of steps that do not change pixels
OWN_SIZE = dict(type="Resize", scale_factor=1.0)  # does not change them either


def parse_args() -> argparse.Namespace:
    parser = ToolParser(__doc__)
    add_network(parser)
    add_task(parser)
    add_cfg_options(parser)
    add = parser.group("what is written").add_argument
    add("file", type=Path, metavar="FILE", help="ONNX file to write, e.g. fcn8s.onnx; up to 2 GB")
    add(
        "--scores",
        action="store_true",
        help="return 'scores': batch x classes x height x width, float32, before softmax",
    )
    add(
        "--no-preprocessing",
        action="store_true",
        help="take batch x 3 x height x width, float32, normalised by the caller; order of the "
        "channels, mean and std are in the metadata",
    )
    add(
        "--no-resize",
        action="store_true",
        help="leave the resizing of the test pipeline to the caller; the metadata describe it",
    )
    add(
        "--size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="one size for all images, if network or runtime cannot take every size",
    )
    parser.group("check").add_argument(
        "--images",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="compare on these images, too; default: only synthetic ones of three sizes",
    )
    args = parser.parse_args()
    if args.size and min(args.size) < 1:
        parser.error("--size: at least 1 1")
    return args


def main() -> None:
    args = parse_args()
    cfg = load_config(args)

    import fcn_plugin
    from fcn_plugin.errors import UserError
    from fcn_plugin.export import Deployed, export_onnx
    from fcn_plugin.export.checking import SIZES, checks
    from fcn_plugin.export.graph import examples
    from fcn_plugin.export.onnx_file import need_extra
    from fcn_plugin.system.files import replacing
    from fcn_plugin.system.progress import progress_bar

    need_extra()
    keep_quiet()
    read, dtype = reader(cfg)
    images = [read_image(read, file, args.size, dtype) for file in args.images or ()]
    size = tuple(args.size) if args.size else None
    sizes = [size, size] if size else SIZES
    inside = not (args.no_resize or args.no_preprocessing or dtype.is_floating_point)
    resizing, left = steps(cfg, inside)
    checked = []
    with progress_bar() as progress, replacing(args.file) as part:
        progress("Reading the checkpoint", 0, 1)
        model = load(cfg, args.checkpoint, args.task)
        deployed = Deployed(model)
        for file, image in zip(args.images or (), images, strict=True):
            if image.shape[-1] != deployed.channels:
                raise UserError(
                    f"{file}: {image.shape[-1]} bands, but the network takes {deployed.channels}; "
                    "give --images like those it was trained on"
                )
        if deployed.takes_rgb:
            images = [image.flip(-1) for image in images]
        synthetic = [examples(deployed, 1 + i % 2, size, dtype) for i, size in enumerate(sizes)]
        batches = synthetic + images
        progress("Exporting, which takes a minute or two", 0, 1)
        export_onnx(
            model,
            part,
            argmax=not args.scores,
            preprocessing=not args.no_preprocessing,
            size=size,
            resizing=resizing,
            dtype=dtype,
            metadata=dict(
                config=Path(args.config).name,
                left_to_caller=left,
                bits=getattr(read.loader, "bits", None),
            ),
        )
        for batch, check in zip(batches, checks(model, part, batches), strict=True):
            checked.append(check)
            progress("Checking", len(checked), len(batches))
            if check.identical < LEAST_IDENTICAL:
                rows, cols = check.size
                raise UserError(
                    f"{args.file}: not written: onnxruntime gives {100 * check.identical:.3f} "
                    f"% of the labels that PyTorch gives, at {len(batch)} x {rows} x {cols}; train "
                    "the network first, or report it with the config"
                )
    for batch, (size, identical, difference) in zip(batches, checked, strict=True):
        shape = " x ".join(map(str, (len(batch), *size)))
        apart = f", scores at most {difference:.1e} apart" if args.scores else ""
        print(f"{shape:<18} {100 * identical:.4f} % of labels identical{apart}")
    if left:
        show(
            f"Left to you: the test pipeline's {', '.join(map(written, left))} before, and to "
            "bring the labels to the image's size after; else they are not those of predict.py "
            "('left_to_caller' in the file's metadata)"
        )
    worst = min(check.identical for check in checked)
    show(
        f"Done: {args.file}, {args.file.stat().st_size / 1e6:.1f} MB by fcn_plugin "
        f"{fcn_plugin.__version__}; PyTorch's labels on {100 * worst:.4f} % of the pixels or more, "
        f"in {len(checked)} batches"
    )
    if left or args.no_preprocessing or dtype.is_floating_point:
        show(f"Next: onnxruntime.InferenceSession({str(args.file)!r}) in a program of yours")
    else:
        show(next_step("predict", args.file, "IMAGES", "--out", "predictions"))


def keep_quiet() -> None:
    """Hide warnings of torch's exporter and mmseg that users can do nothing about."""
    warnings.filterwarnings("ignore")
    for name in ("torch.onnx", "torch.fx", "torch.export"):
        logging.getLogger(name).setLevel(logging.ERROR)


def load(cfg, checkpoint: str, task: str | None):  # mmengine.Config -> nn.Module
    import torch

    from fcn_plugin.engine.resuming import find_checkpoint
    from fcn_plugin.prediction.network import load_network

    file = find_checkpoint(checkpoint)
    model, classes = load_network(cfg, file, torch.device("cpu"), task=task)
    # The attribute that mmseg's init_model sets, too.
    model.dataset_meta = dict(
        classes._asdict(), classes=classes.names, label_map=dict(classes.label_map)
    )
    return model


def reader(cfg):  # mmengine.Config -> Reader, torch.dtype
    """The config's image loader, and the dtype of the images that the exported file takes.

    The dtype is uint8, or float32 if the config has its own loader, which may return any values.
    """
    import torch
    from mmengine.registry import init_default_scope

    from fcn_plugin.prediction.reading import Reader
    from fcn_plugin.system.configs import pipeline_of

    init_default_scope(cfg.get("default_scope", "mmseg"))
    read = Reader(pipeline_of(cfg.test_dataloader.dataset))
    return read, torch.uint8 if read.is_usual else torch.float32


def read_image(read, file: Path, size: list[int] | None, dtype):  # -> 1 x H x W x C
    """An image as the config loads it, resized to ``size`` if given."""
    import cv2
    import numpy as np
    import torch

    pixels = read.load(file)
    pixels = np.asarray(pixels, np.uint8 if dtype == torch.uint8 else np.float32)
    if size:
        pixels = cv2.resize(pixels, size[::-1])
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return torch.from_numpy(np.ascontiguousarray(pixels))[None]


def steps(cfg, inside: bool):  # mmengine.Config -> Resizing | None, list[dict]
    """The resizing inside the exported file, if any, and the test pipeline's other steps."""
    from fcn_plugin.export import Resizing
    from fcn_plugin.system.configs import pipeline_of, type_name

    pipeline = pipeline_of(cfg.test_dataloader.dataset)
    steps = [dict(step, type=type_name(step)) for step in pipeline[1:]]  # the first loads
    changing = [
        step for step in steps if not step["type"].startswith(FILES_AND_FORM) and step != OWN_SIZE
    ]
    # Only the last step may be inside the file, which rounds to whole levels.
    floats = any(step.get("to_float32") for step in pipeline)
    if inside and not floats and changing and changing[-1]["type"] == "Resize":
        return Resizing.of(changing[-1]), changing[:-1]
    return None, changing


def written(step: dict) -> str:
    """A step in words, as in a config."""
    settings = ", ".join(f"{name}={value}" for name, value in step.items() if name != "type")
    return f"{step['type']}({settings})"


if __name__ == "__main__":
    run(main)
