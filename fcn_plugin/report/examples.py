"""Choose the images that the page shows, and make their panels."""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from fcn_plugin.report.evaluation import Evaluation, ScoredImage
from fcn_plugin.report.panels import errors_uri, jpeg_uri, labels_uri, load_labels

SHOWN = 4  # most images of a group
BY = "by mean IU over the classes that are in the image's own truth or prediction"

# Pairs (mean IU or its change, the image's index in each evaluation), the lowest first.
Ranked = list[tuple[float, tuple[int, ...]]]


def groups(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The worst and best images of one run, or the largest gains and losses between two.

    Each group has a title, a text and at least one example.
    """
    if not evaluations:
        return []
    if len(evaluations) == 1:
        worst, best = _ends(_ranked(evaluations[0]))
        chosen = [
            ("Worst images", f"The lowest {BY}; the lowest first.", worst),
            ("Best images", f"The highest {BY}; the highest first.", best[::-1]),
        ]
    else:
        losses, gains = _ends(_ranked_by_change(*evaluations))
        gains = [image for image in gains[::-1] if image[0] > 0]
        losses = [image for image in losses if image[0] < 0]
        chosen = [
            ("Largest gains", f"Where B is better than A {BY}.", gains),
            ("Largest losses", f"Where B is worse than A {BY}.", losses),
        ]
    return [
        dict(title=title, text=text, images=[_example(evaluations, index) for _, index in images])
        for title, text, images in chosen
        if images
    ]


def key(image: ScoredImage) -> str:
    """Folder and file name, which stay the same if the data set is moved."""
    return "/".join(PurePath(image.path.replace("\\", "/")).parts[-2:])


def _ranked(evaluation: Evaluation) -> Ranked:
    return sorted(
        (image.mean_iu, (index,))
        for index, image in enumerate(evaluation.images)
        if image.mean_iu is not None and evaluation.has_panels(index)
    )


def _ranked_by_change(first: Evaluation, second: Evaluation) -> Ranked:
    after = {key(second.images[index]): (iu, index) for iu, (index,) in _ranked(second)}
    pairs = ((iu, i, after.get(key(first.images[i]))) for iu, (i,) in _ranked(first))
    return sorted((match[0] - iu, (i, match[1])) for iu, i, match in pairs if match)


def _ends(ranked: Ranked) -> tuple[Ranked, Ranked]:
    """The first few and the last few, without overlap."""
    shown = min(SHOWN, len(ranked) // 2)
    return ranked[: shown or 1], ranked[len(ranked) - shown :]


def _example(evaluations: Sequence[Evaluation], indices: tuple[int, ...]) -> dict[str, Any]:
    first, index = evaluations[0], indices[0]
    name, note = PurePath(key(first.images[index])).name, first.images[index].note
    truth, _, _ = load_labels(first.panels, index)
    caption, uri = f"input: {note}" if note else "input", jpeg_uri(first.panels, index)
    panels = [
        dict(caption=caption, alt=f"input {name}", uri=uri),
        _labels_panel("truth", name, truth, first),
    ]
    shown, texts = [truth], []
    for letter, evaluation, image_index in zip("AB", evaluations, indices, strict=False):
        run = f" {letter}" if len(evaluations) > 1 else ""
        image = evaluation.images[image_index]
        _, prediction, _ = load_labels(evaluation.panels, image_index)
        accuracy = f"pixel accuracy {_percent(image.pixel_accuracy)}"
        shown.append(prediction)
        texts.append(f"{run} mean IU {_percent(image.mean_iu)}, {accuracy}".strip())
        alt = f"errors{run} in {name}, black: {accuracy} %"
        uri = errors_uri(truth, prediction, len(first.classes))
        panels += [
            _labels_panel(f"prediction{run}", name, prediction, first),
            dict(caption=f"errors{run}", alt=alt, uri=uri),
        ]
    return dict(
        name=name,
        text="; ".join(texts),
        width=truth.shape[1],
        height=truth.shape[0],
        panels=panels,
        legend=_present(np.concatenate([labels.ravel() for labels in shown]), first.classes),
        void=bool((truth >= len(first.classes)).any()),
    )


def _labels_panel(title: str, name: str, labels: np.ndarray, run: Evaluation) -> dict[str, str]:
    present = ", ".join(run.classes[index] for index in _present(labels, run.classes))
    alt = f"{title} of {name}: {present or 'nothing but void'}"
    return dict(caption=title, alt=alt, uri=labels_uri(labels, run.palette, run.numbers))


def _present(labels: np.ndarray, classes: Sequence[str]) -> list[int]:
    return [int(index) for index in np.unique(labels) if index < len(classes)]


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f}"
