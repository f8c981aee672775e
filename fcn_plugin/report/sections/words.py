"""What the scores of a run mean, in sentences."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fcn_plugin.evaluation.drawing import percent
from fcn_plugin.evaluation.error_kinds import BORDER, INSIDE, INVENTED, KINDS, MISSED, NEAR
from fcn_plugin.report.rendering import joined
from fcn_plugin.report.sections.scored import Scored

MOSTLY = 0.5  # share of a class from which pixel accuracy is high without any other
SURE = 0.01  # confidence and accuracy that differ less are called the same
WHERE = {
    MISSED: "belong to objects that are missed",
    BORDER: f"lie within {NEAR} pixels of a border",
    INVENTED: "belong to objects that are not there",
    INSIDE: "lie inside regions that are partly taken for something else",
}


def in_words(scored: Scored) -> str:
    """Sentences about what is right and what is wrong; '' if nothing was scored."""
    return scored.start + " ".join(_sentences(scored)) if scored.measured("pixel_accuracy") else ""


def _sentences(scored: Scored) -> Iterator[str]:
    evaluation, scores = scored.evaluation, scored.evaluation.scores
    yield f"The mean IU is {100 * scores['mean_iu']:.1f} %."
    shares = evaluation.matrix.sum(1) / evaluation.matrix.sum()
    largest = evaluation.classes[shares.argmax()]
    baseline = f"; {100 * shares.max():.1f} % would be if all were called {largest}"
    right = f"{100 * scores['pixel_accuracy']:.1f} % of the pixels are right"
    yield f"{right}{baseline if shares.max() >= MOSTLY else ''}."
    lowest = [_of_class(scored, i) for i in scored.lowest]
    if lowest:
        yield f"Lowest in IU: {joined(lowest)}."
    kinds = evaluation.total.get("kinds", np.zeros(len(KINDS)))
    if kinds.any():
        shares = dict(zip(KINDS, kinds / kinds.sum(), strict=True))
        order = sorted(KINDS, key=lambda kind: -shares[kind])
        parts = [f"{percent(shares[kind])} {WHERE[kind]}" for kind in order if shares[kind]]
        yield f"Of the wrong pixels {joined(parts)}."
    if scored.measured("mean_confidence"):
        yield f"{sureness(scores)}."


def _of_class(scored: Scored, index: int) -> str:
    """Such as "cat (40.2 %; 31 % is taken for dog)": the IU, and the most frequent error."""
    evaluation = scored.evaluation
    score = f"{100 * evaluation.scores['class_iu'][index]:.1f} %"
    for name, share in scored.mistaken_for(index)[:1]:
        score += f"; {percent(share)} is taken for {name}"
    return f"{evaluation.classes[index]} ({score})"


def sureness(scores: dict[str, Any]) -> str:
    """Confidence against accuracy, in words."""
    sure, right = scores["mean_confidence"], scores["pixel_accuracy"]
    verdict = "it is about as sure as it is right"
    if abs(sure - right) >= SURE:
        verdict = f"it is {'over' if sure > right else 'under'}confident"
    return (
        f"The network says that it is {100 * sure:.1f} % sure on average, and is right in "
        f"{100 * right:.1f} %: {verdict}"
    )
