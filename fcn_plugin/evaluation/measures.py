"""What can be measured beside the confusion matrix, and all scores of what was counted.

An image is counted into a few small arrays of whole numbers, by name:

==================== ================ ==========================================================
regions              3 x C            ``class_counts`` of its confusion matrix
boundary             3 x C            the same of boundary regions, ``boundaries.boundary_counts``
trimap               2 x 32           pixels and right ones by distance from true borders
confidence           3 x BINS         ``calibration_counts`` of all classes together
confidence_by_class  3 x C x BINS     by predicted class
kinds                4                wrong pixels by the kind of error, ``error_kinds``
components           4 x SIZES        true components by size, and how many of them are found
==================== ================ ==========================================================

They add up over images and processes without rounding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcn_plugin.errors import UserError, did_you_mean
from fcn_plugin.evaluation.boundaries import (
    RATIO,
    boundary_counts,
    boundary_distance,
    trimap_accuracy,
    trimap_counts,
)
from fcn_plugin.evaluation.calibration import calibration_error, mean_confidence
from fcn_plugin.evaluation.components import component_counts, components
from fcn_plugin.evaluation.error_kinds import error_kinds, kind_counts
from fcn_plugin.evaluation.scores import Absent, scores_of

Counts = dict[str, np.ndarray]

# The counts of a whole test only; those of each image would be large.
WHOLE = ("matrix", "confidence_by_class", "components")
TRIMAPS = (1, 2, 4, 8, 16, 32)  # widths that have a key of their own
ERRORS = ("missed", "border", "invented", "inside")  # as in ``KINDS``
LOWER_IS_BETTER = ("calibration_error", *(f"errors_{name}" for name in ERRORS))
# Key of a metric -> name in ``summary``, by measure.
MEASURES = {
    "boundary": {"mBIoU": "boundary_iu", **{f"tAcc{w}": f"trimap_{w}" for w in TRIMAPS}},
    "confidence": {"ECE": "calibration_error", "conf": "mean_confidence"},
    "errors": {f"e{name.capitalize()}": f"errors_{name}" for name in ERRORS},
}


@dataclass(frozen=True)
class Measures:
    """Which measures are taken.

    Attributes:
        names: some of ``MEASURES``.
        ratio: width of boundary regions, as a fraction of the image's diagonal.

    Raises:
        UserError: a name is unknown, or the ratio is no fraction up to 1.
    """

    names: tuple[str, ...] = ()
    ratio: float = RATIO

    def __post_init__(self) -> None:
        for name in self.names:
            if name not in MEASURES:
                hint = did_you_mean(name, MEASURES, f"choose some of {', '.join(MEASURES)}")
                raise UserError(f"measure {name!r}: unknown; {hint}")
        if not (isinstance(self.ratio, int | float) and 0 < self.ratio <= 1):
            raise UserError(f"boundary ratio {self.ratio!r}: give a fraction up to 1, such as 0.02")

    def __contains__(self, name: str) -> bool:
        return name in self.names

    @property
    def keys(self) -> dict[str, str]:
        """Key of a metric -> name in ``summary``."""
        return {key: name for each in self.names for key, name in MEASURES[each].items()}

    @property
    def of_label_maps(self) -> bool:
        """Whether label maps are measured."""
        return "boundary" in self or "errors" in self

    def of_maps(
        self, truth: np.ndarray, prediction: np.ndarray, num_classes: int
    ) -> tuple[Counts, np.ndarray | None]:
        """The counts of one image that need its label maps only, and the kinds of its errors.

        Args:
            truth, prediction: integers [H, W]; what is no class, 0 .. C - 1, is void in the truth
                and wrong in the prediction.
        """
        counts: Counts = {}
        kinds = None
        if self.of_label_maps:
            maps, distance = (truth, prediction, num_classes), boundary_distance(truth)
        if "boundary" in self:
            counts["boundary"] = boundary_counts(*maps, self.ratio)
            counts["trimap"] = trimap_counts(*maps, distance)
        if "errors" in self:
            true = components(truth)
            kinds = error_kinds(*maps, distance, true)
            counts["kinds"] = kind_counts(kinds)
            counts["components"] = component_counts(*maps, true)
        return counts, kinds


NOTHING_MORE = Measures()


def summed(first: Counts, second: Counts) -> Counts:
    """The sum of counts; of those that only one of them has, that."""
    both = first.keys() & second.keys()
    return {**first, **second, **{name: first[name] + second[name] for name in both}}


def stacked(images: Sequence[Counts]) -> Counts:
    """The counts of images, [N, ...] by name."""
    return {name: np.stack([each[name] for each in images]) for name in images[0]} if images else {}


def summed_images(by_image: Counts) -> Counts:
    """The counts of images together, of [N, ...] by name."""
    return {name: each.sum(0) for name, each in by_image.items()}


def summary(
    counts: Mapping[str, np.ndarray], absent: Absent = "skip", beta: float = 1
) -> dict[str, Any]:
    """All scores of counts, as fractions: numbers, and arrays by class or width.

    Args:
        counts: of one image, or added up, with or without some measures.
        absent, beta: as in ``scores``.
    """
    regions = scores_of(counts["regions"], absent, beta)
    found = {**vars(regions), "final": regions.final}
    if "boundary" in counts:
        boundary, trimap = scores_of(counts["boundary"], absent), trimap_accuracy(counts["trimap"])
        found |= {"boundary_iu": boundary.mean_iu, "class_boundary_iu": boundary.class_iu}
        found |= {f"trimap_{width}": float(trimap[width - 1]) for width in TRIMAPS}
        found["trimap"] = trimap
    if "confidence" in counts:
        found["calibration_error"] = calibration_error(counts["confidence"])
        found["mean_confidence"] = mean_confidence(counts["confidence"])
    if "kinds" in counts:
        pixels = counts["regions"][1].sum()
        with np.errstate(invalid="ignore"):
            shares = counts["kinds"] / pixels
        found |= {f"errors_{name}": float(v) for name, v in zip(ERRORS, shares, strict=True)}
    return found
