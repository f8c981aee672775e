"""Which images the page shows, and their panels."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from fcn_plugin.report.evaluation import Evaluation, ScoredImage
from fcn_plugin.report.panels import errors_uri, jpeg_uri, labels_uri, load_labels

SHOWN = 4  # of a group, at most
BY = "by mean IU over the classes that are in the image's own truth or prediction"

Example = dict[str, Any]
Place = tuple[int, ...]  # of an image among those of each run
Ranked = list[tuple[float, Place]]  # rising


def groups(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Worst and best images of one run, or those that differ most between two.

    Each group has a title, a text and examples; none that is empty.
    """
    if len(evaluations) == 1:
        worst, best = _ends(_ranked(evaluations[0]))
        found = [
            ("Worst images", f"The lowest {BY}; the lowest first.", worst),
            ("Best images", f"The highest {BY}; the highest first.", best[::-1]),
        ]
    elif len(evaluations) == 2:
        losses, gains = _ends(_ranked_by_change(*evaluations))
        gains = [(change, place) for change, place in gains if change > 0]
        losses = [(change, place) for change, place in losses if change < 0]
        found = [
            ("Largest gains", f"Where B is better than A {BY}.", gains[::-1]),
            ("Largest losses", f"Where B is worse than A {BY}.", losses),
        ]
    else:
        found = []
    return [
        dict(title=title, text=text, images=[_example(evaluations, place) for _, place in group])
        for title, text, group in found
        if group
    ]


def key(image: ScoredImage) -> str:
    """What an image is known by if its data set has moved: folder and name."""
    return "/".join(PurePath(image.path.replace("\\", "/")).parts[-2:])


def _ranked(evaluation: Evaluation) -> Ranked:
    return sorted(
        (image.mean_iu, (place,))
        for place, image in enumerate(evaluation.images)
        if image.mean_iu is not None and evaluation.has_panels(place)
    )


def _ranked_by_change(first: Evaluation, second: Evaluation) -> Ranked:
    places = {key(image): place for place, image in enumerate(second.images)}
    ranked: Ranked = []
    for place, image in enumerate(first.images):
        other = places.get(key(image))
        if other is None or not (first.has_panels(place) and second.has_panels(other)):
            continue
        after = second.images[other].mean_iu
        if image.mean_iu is not None and after is not None:
            ranked.append((after - image.mean_iu, (place, other)))
    return sorted(ranked)


def _ends(ranked: Ranked) -> tuple[Ranked, Ranked]:
    """The first and the last few; none is in both."""
    shown = min(SHOWN, len(ranked) // 2)
    return ranked[: shown or 1], ranked[len(ranked) - shown :]


def _example(evaluations: Sequence[Evaluation], place: Place) -> Example:
    """Input and truth, then prediction and errors of each run."""
    first, classes = evaluations[0], evaluations[0].classes
    name = PurePath(key(first.images[place[0]])).name
    truth, _ = load_labels(first.panels, place[0])
    note = first.images[place[0]].note
    panels = [
        dict(
            caption=f"input: {note}" if note else "input",
            alt=f"input {name}",
            uri=jpeg_uri(first.panels, place[0]),
        ),
        _labels_panel("truth", name, truth, first),
    ]
    shown, texts = [truth], []
    for letter, evaluation, at in zip("AB", evaluations, place, strict=False):
        of = f" {letter}" if len(evaluations) > 1 else ""
        image = evaluation.images[at]
        _, prediction = load_labels(evaluation.panels, at)
        accuracy = f"pixel accuracy {_percent(image.pixel_accuracy)}"
        shown.append(prediction)
        texts.append(f"{of} mean IU {_percent(image.mean_iu)}, {accuracy}".strip())
        panels += [
            _labels_panel(f"prediction{of}", name, prediction, first),
            dict(
                caption=f"errors{of}",
                alt=f"errors{of} in {name}, black: {accuracy} %",
                uri=errors_uri(truth, prediction, len(classes)),
            ),
        ]
    return dict(
        name=name,
        text="; ".join(texts),
        width=truth.shape[1],
        height=truth.shape[0],
        panels=panels,
        legend=_present(np.concatenate([labels.ravel() for labels in shown]), classes),
        void=bool((truth >= len(classes)).any()),
    )


def _labels_panel(title: str, name: str, labels: np.ndarray, of: Evaluation) -> dict[str, str]:
    there = ", ".join(of.classes[value] for value in _present(labels, of.classes))
    return dict(
        caption=title,
        alt=f"{title} of {name}: {there or 'nothing but void'}",
        uri=labels_uri(labels, of.palette, of.numbers),
    )


def _present(labels: np.ndarray, classes: Sequence[str]) -> list[int]:
    return [int(value) for value in np.unique(labels) if value < len(classes)]


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f}"
