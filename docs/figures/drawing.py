"""What the drawings of docs/how_it_works.md share: their network, and how a file is written."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

WIDTH = 3.6  # inches of a drawing; letters of 8 points are then 11 pixels high on a phone
POINTS = 72  # in an inch
HEIGHT_AND_WIDTH = 375, 500  # of the picture
CLASSES = 21  # of PASCAL VOC
LEVELS = ("pool3", "pool4", "fc7")
KEPT, PALE, ZEROS, MARK = "#1f5fa8", "#b9cbe0", "#d4d4d4", "#a33c00"
# The arguments of savefig. Without a date the same content gives the same file.
OPTIONS: dict[str, dict[str, Any]] = {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 200}}


def file_to_write(description: str) -> Path:
    """The file that the command line names by --out."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a picture, .svg or .png"
    )
    args = parser.parse_args()
    if args.out.suffix[1:] not in OPTIONS:
        parser.error(f"--out {args.out}: a name in .svg or .png")
    return args.out


def fcn8s(padding: str):  # -> tuple[ConvolutionalizedVGG, Features, SkipFusionHead]
    """An FCN-8s and its levels of an empty picture.

    It is untrained and narrow: where a level's pixels lie depends on neither.
    """
    import torch

    from fcn_plugin.models import ConvolutionalizedVGG, SkipFusionHead

    backbone = ConvolutionalizedVGG(padding=padding, base_channels=2, fc_channels=8).eval()
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, *HEIGHT_AND_WIDTH))
    channels = [level.shape[1] for level in features]
    return backbone, features, SkipFusionHead(channels, range(len(channels)), CLASSES).eval()


def write(file: Path, height: float, draw: Callable[[Any], None], **settings: Any) -> None:
    """Write what ``draw`` draws into a matplotlib figure of this height in inches.

    The background is white, in dark pages too.
    """
    import matplotlib
    from matplotlib.figure import Figure

    from fcn_plugin.report.charts import SETTINGS
    from fcn_plugin.system.files import replacing

    kind = file.suffix[1:]
    with matplotlib.rc_context({**SETTINGS, "axes.grid": False}):
        figure = Figure((WIDTH, height), **settings)
        draw(figure)
        with replacing(file) as part:
            figure.savefig(part, format=kind, **OPTIONS[kind])
