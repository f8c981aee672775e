"""Whether the second of two runs is better, on the images that both have scored."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fcn_plugin.evaluation.comparison import Change, Comparison, comparison
from fcn_plugin.evaluation.intervals import FEW, LEVEL
from fcn_plugin.evaluation.measures import LOWER_IS_BETTER, summary, summed_images
from fcn_plugin.report.examples import common_images
from fcn_plugin.report.rendering import Number, hex_colour, in_percent, in_points
from fcn_plugin.report.sections.scored import Scored
from fcn_plugin.report.sections.scores import NAMES, SCORES, shown


def against(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """The paired comparison of two runs; None without intervals or two images in common.

    Returns:
        ``rows`` of scores and ``classes`` by IU, each with numbers, change and wins; ``whole``:
        whether both have scored the same images; and sentences.
    """
    by = [one.intervals.by for one in scored if one.intervals]
    if len(by) < 2:
        return None
    first, second = (one.evaluation for one in scored)
    pairs = common_images(first, second)
    if len(pairs) < 2:
        return None
    indices = np.array(pairs).T
    sides = [
        {name: counts[places] for name, counts in evaluation.by_image.items()}
        for evaluation, places in zip((first, second), indices, strict=True)
    ]
    paths = [first.images[i].path for i in indices[0]]
    changes = comparison(sides[0], sides[1], paths, by[0], first.absent)
    whole = len(pairs) == len(first.images) == len(second.images)
    scores = [summary(summed_images(side), first.absent) for side in sides]
    names = {
        title: NAMES[key]
        for title, key in SCORES.items()
        if NAMES[key] in changes.scores and shown(scored[0], key)
    }
    return dict(
        whole=whole,
        common=f"{len(pairs):,}",
        alone=[f"{len(one.images) - len(pairs):,}" for one in (first, second)],
        text=changes.text,
        verdict=_verdict(changes),
        rows=[
            dict(
                title=title,
                lower=name in LOWER_IS_BETTER,
                numbers=[
                    one.score(name) if whole else in_percent(score[name])
                    for one, score in zip(scored, scores, strict=True)
                ],
                **_changed(changes.scores[name]),
            )
            for title, name in names.items()
        ],
        classes=[
            dict(
                number=first.numbers[i],
                name=first.classes[i],
                colour=hex_colour(first.palette[i]),
                numbers=[in_percent(score["class_iu"][i]) for score in scores],
                **_changed(change),
            )
            for i, change in enumerate(changes.arrays["class_iu"])
        ],
    )


def _changed(change: Change) -> dict[str, Number]:
    return dict(change=in_points(change.value, change.bounds), wins=in_percent(change.wins))


def _verdict(changes: Comparison) -> str:
    """Whether the mean IU of B is higher beyond the chance of the images, in one sentence."""
    value, (low, high), _ = changes.scores["mean_iu"]
    if math.isnan(low):
        return ""
    size = f"{100 * abs(value):.2f} points {'lower' if value < 0 else 'higher'}"
    interval = f"{LEVEL} % interval of the change {in_points(value, (low, high)).interval}"
    if changes.better:
        return f"B is better than A beyond chance: its mean IU is {size} ({interval})."
    if changes.better is False:
        return f"A is better than B beyond chance: the mean IU of B is {size} ({interval})."
    few = changes.drawn < FEW
    why = f"the images are few ({interval})" if few else f"0 is in the {interval}"
    return f"Which is better is open: the mean IU of B is {size}, but {why}."
