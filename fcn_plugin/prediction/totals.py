"""What a prediction of many images and videos comes to: counts, and the lines that tell them."""

import time
from collections.abc import Sequence
from pathlib import Path

from fcn_plugin.errors import some
from fcn_plugin.evaluation.tables import class_table
from fcn_plugin.prediction.result import Prediction


class Totals:
    """Counts over all images and frames, since it was made.

    Attributes:
        images, frames: number of those that are predicted.
        unreadable: files of images and videos that are not, or not to their end.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes, self.began = classes, time.monotonic()
        self.images = self.frames = self.windowed = 0
        self.pixels = [0] * len(classes)
        self.found_in = [0] * len(classes)
        self.unreadable: list[Path] = []
        self.factors: list[float] = []

    def add(self, result: Prediction, factors: tuple[float, ...], frame: bool = False) -> None:
        """Count a result, of an image or the frame of a video.

        ``factors`` are those of the config's resizing, none with --tta.
        """
        self.frames += frame
        self.images += not frame
        self.windowed += result.windows > 1
        self.factors += factors
        for i, count in enumerate(result.counts().tolist()):
            self.pixels[i] += count
            self.found_in[i] += count > 0

    def lines(self, out: Path, kinds: Sequence[str]) -> list[str]:
        """The table of predicted classes, and what is done; ``kinds`` are folders in ``out``."""
        rows = list(zip(self.classes, self.found_in, self.pixels, strict=True))
        found = [row for row in rows if row[1]]
        images = [images for _, images, _ in found]
        shares = [f"{100 * pixels / sum(self.pixels):.2f} %" for *_, pixels in found]
        lines = [class_table([name for name, *_ in found], dict(images=images, pixels=shares))]
        if absent := [name for name, images, _ in rows if not images]:
            lines.append(f"Predicted nowhere: {some(absent)}")
        factors = sorted(self.factors) or [1.0]
        sizes = list(dict.fromkeys(f"{factor:.3g}" for factor in (factors[0], factors[-1])))
        if sizes != ["1"]:
            lines.append(
                f"The network saw them at {' to '.join(sizes)} of their size (the config's Resize)"
            )
        if self.windowed:
            lines.append(f"{self.windowed} of them in windows, to fit into memory (--max-memory)")
        counts = {"image": self.images, "frame": self.frames}
        done = [f"{n:,} {name}{'s' * (n != 1)}" for name, n in counts.items() if n]
        where = ", ".join(f"{kind} in {out / kind}" for kind in kinds)
        rate = (self.images + self.frames) / (time.monotonic() - self.began)
        pace = f"{rate:.1f} images/s" if rate >= 1 else f"{rate:.2g} images/s"
        if self.frames:
            pace += f", {1 / rate:.2g} s a frame"
        return [*lines, f"Done: {' and '.join(done)}, {where}, {pace}"]
