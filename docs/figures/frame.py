"""Draw an image, its truth and the labels of trained networks in one row, with their mean IU.

python docs/figures/frame.py TITLE=WORK_DIR ... --out FILE

All of it is what ``fcn-plugin report WORK_DIR`` has left in each work dir.
"""

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tools"))

from common import run, show

PANEL = 3.6  # inches of a panel's width
LEGEND = 1.2  # inches of titles and a legend of two rows
DPI = 100
OPTIONS = {"png": {"optimize": True}, "webp": {"quality": 85}}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Each network has to be scored first, by fcn-plugin report WORK_DIR.",
    )
    add = parser.add_argument
    order = "a panel each, in this order, such as FCN-8s=work_dirs/fcn8s_vgg16-convs_camvid"
    add("runs", nargs="+", type=titled, metavar="TITLE=WORK_DIR", help=order)
    add("--image", metavar="NAME", help="file name; default: of the last network's median mean IU")
    add("--out", type=Path, required=True, metavar="FILE", help="a picture, .png or .webp")
    args = parser.parse_args()
    if args.out.suffix[1:] not in OPTIONS:
        parser.error(f"--out {args.out}: a name in .png or .webp")
    return args


def titled(text: str) -> tuple[str, Path]:
    """A run's title and work dir."""
    title, given, work_dir = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"{text!r}: write TITLE={text}")
    return title, Path(work_dir)


def main() -> None:
    args = parse_args()

    import fcn_plugin  # noqa: F401  # makes mmseg importable
    from fcn_plugin.report.panels import load_labels

    evaluations = [evaluation_of(folder) for _, folder in args.runs]
    last = evaluations[-1]
    index = chosen(last.images, args.image)
    path = last.images[index].path
    panels: dict = {"input": None, "truth": load_labels(last.panels, index)[0]}
    for (title, folder), evaluation in zip(args.runs, evaluations, strict=True):
        check_same(folder, evaluation, last)
        mean_iu = 100 * evaluation.scores["mean_iu"]
        panels[f"{title}, mean IU {mean_iu:.1f}"] = load_labels(evaluation.panels, index)[1]
    draw(panels, last.panels / f"{index}.jpg", last, args.out)
    checkpoints = ", ".join(evaluation.facts["checkpoint"] for evaluation in evaluations)
    show(f"{path} of {last.dataset}, by {checkpoints}")
    show(f"Done: {args.out} has {args.out.stat().st_size:,} bytes")


def evaluation_of(work_dir: Path):  # -> fcn_plugin.report.evaluation.Evaluation
    """What ``fcn-plugin report`` has counted and drawn.

    Raises:
        UserError: it has not scored this work dir.
    """
    from fcn_plugin.errors import UserError
    from fcn_plugin.report.evaluation import load

    evaluation = load(work_dir / "evaluation")
    if evaluation is None:
        raise UserError(f"{work_dir}: not scored yet; run fcn-plugin report {work_dir}")
    return evaluation


def check_same(work_dir: Path, evaluation, last) -> None:
    """Raise ``UserError`` if two evaluations are not of the same images."""
    from fcn_plugin.errors import UserError

    if [image.path for image in evaluation.images] != [image.path for image in last.images]:
        raise UserError(f"{work_dir}: scored on other images than the last one; score both alike")


def chosen(images, name: str | None) -> int:  # images: Sequence[ScoredImage]
    """The place of the image with this file name, or of the median mean IU.

    Raises:
        UserError: no image has this name.
    """
    from fcn_plugin.errors import UserError, did_you_mean

    if name is None:
        scored = [i for i, image in enumerate(images) if image.mean_iu is not None]
        return sorted(scored, key=lambda i: images[i].mean_iu)[len(scored) // 2]
    names = [Path(image.path).name for image in images]
    if name not in names:
        hint = did_you_mean(name, names, f"names are like {names[0]}")
        raise UserError(f"--image {name}: no such image; {hint}")
    return names.index(name)


def draw(panels: dict, photo: Path, evaluation, file: Path) -> None:
    """Draw labels by their titles, and the photo where there are none, above a legend."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from PIL import Image

    from fcn_plugin.evaluation.drawing import VOID, colour_table
    from fcn_plugin.system.files import replacing

    picture = np.asarray(Image.open(photo))
    colours = colour_table(evaluation.palette)
    height, width = picture.shape[:2]
    size = len(panels) * PANEL, PANEL * height / width + LEGEND
    figure = Figure(size, dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (text, labels) in zip(axes, panels.items(), strict=True):
        axis.imshow(picture if labels is None else colours[labels])
        axis.set_title(text, fontsize=19)
        axis.set_axis_off()
    rows = [*zip(evaluation.classes, evaluation.palette, strict=True), ("void", VOID)]
    boxes = [Patch(facecolor=np.divide(rgb, 255), edgecolor="k", label=name) for name, rgb in rows]
    columns = (len(boxes) + 1) // 2
    figure.legend(
        handles=boxes, loc="outside lower center", ncols=columns, fontsize=15, frameon=False
    )
    kind = file.suffix[1:]
    with replacing(file) as part:
        figure.savefig(part, format=kind, pil_kwargs=OPTIONS[kind])


if __name__ == "__main__":
    run(main)
