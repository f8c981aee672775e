"""Choose the images that the page shows, and make their panels."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from fcn_plugin.evaluation.error_kinds import INSIDE, KINDS
from fcn_plugin.report.evaluation import Evaluation, ScoredImage
from fcn_plugin.report.panels import errors_uri, jpeg_uri, labels_uri, load_labels

SHOWN = 4  # most images of a group
OF_A_KIND = 2  # most images for a kind of error
BY = "by mean IU over the classes that are in the image's own truth or prediction"

# Pairs (mean IU or its change, the image's index in each evaluation), the lowest first.
Ranked = list[tuple[float, tuple[int, ...]]]


def groups(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """The worst and best images of one run, or the largest gains and losses between two.

    Then those with most errors of each kind. Each group has a title, a text and an example or more.
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
    found = [
        dict(title=title, text=text, images=[_example(evaluations, index) for _, index in images])
        for title, text, images in chosen
        if images
    ]
    return [*found, *_groups_of_kinds(evaluations)]


def _groups_of_kinds(evaluations: Sequence[Evaluation]) -> Iterator[dict[str, Any]]:
    """For each kind of error, images that have most of it, in all runs together."""
    if not all("kinds" in each.by_image for each in evaluations):
        return
    indices = [(i,) for i in range(len(evaluations[0].images))]
    pairs = common_images(*evaluations) if len(evaluations) > 1 else indices
    pictured = [index for index in pairs if _pictured(evaluations, index)]
    for kind, title in KINDS.items():
        shares = {
            index: sum(_shares(each, i)[kind] for each, i in zip(evaluations, index, strict=True))
            for index in pictured
        }
        most = sorted(filter(shares.__getitem__, shares), key=lambda index: -shares[index])
        if most:
            yield dict(
                title=f"Most errors: {title}",
                text="The largest share of such pixels. In these pictures of errors they are "
                "black, and other errors grey.",
                images=[_example(evaluations, index, kind) for index in most[:OF_A_KIND]],
            )


def _pictured(evaluations: Sequence[Evaluation], index: tuple[int, ...]) -> bool:
    return all(each.has_panels(i) for each, i in zip(evaluations, index, strict=True))


def _shares(evaluation: Evaluation, index: int) -> dict[int, float]:
    """The share of an image's scored pixels that are errors of each kind."""
    counts = evaluation.by_image
    pixels = max(1, counts["regions"][index, 1].sum())
    return dict(zip(KINDS, (counts["kinds"][index] / pixels).tolist(), strict=True))


def key(image: ScoredImage) -> str:
    """Folder and file name, which stay the same if the data set is moved."""
    return "/".join(PurePath(image.path.replace("\\", "/")).parts[-2:])


def common_images(first: Evaluation, second: Evaluation) -> list[tuple[int, int]]:
    """The places, in each, of the images that both have scored, by their ``key``."""
    places = {key(image): place for place, image in enumerate(second.images)}
    keys = [key(image) for image in first.images]
    return [(i, places[name]) for i, name in enumerate(keys) if name in places]


def _ranked(evaluation: Evaluation) -> Ranked:
    return sorted(
        (image.mean_iu, (index,))
        for index, image in enumerate(evaluation.images)
        if image.mean_iu is not None and evaluation.has_panels(index)
    )


def _ranked_by_change(first: Evaluation, second: Evaluation) -> Ranked:
    before, after = ({index: iu for iu, (index,) in _ranked(each)} for each in (first, second))
    return sorted(
        (after[j] - before[i], (i, j))
        for i, j in common_images(first, second)
        if i in before and j in after
    )


def _ends(ranked: Ranked) -> tuple[Ranked, Ranked]:
    """The first few and the last few, without overlap."""
    shown = min(SHOWN, len(ranked) // 2)
    return ranked[: shown or 1], ranked[len(ranked) - shown :]


def _example(
    evaluations: Sequence[Evaluation], indices: tuple[int, ...], kind: int | None = None
) -> dict[str, Any]:
    """An image with its panels; of ``kind`` errors are told and marked if it is given."""
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
        _, prediction, kinds = load_labels(evaluation.panels, image_index)
        accuracy = f"pixel accuracy {_percent(image.pixel_accuracy)}"
        shown.append(prediction)
        texts.append(f"{run} {_text(evaluation, image_index, kind, accuracy)}".strip())
        panels += [
            _labels_panel(f"prediction{run}", name, prediction, first),
            dict(
                caption=f"errors{run}",
                alt=f"errors{run} in {name}: {_errors_in_words(evaluation, image_index, accuracy)}",
                uri=errors_uri(truth, kinds, len(first.classes), _marked(evaluation, kind)),
            ),
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


def _text(evaluation: Evaluation, index: int, kind: int | None, accuracy: str) -> str:
    if kind is None:
        return f"mean IU {_percent(evaluation.images[index].mean_iu)}, {accuracy}"
    share = _percent(_shares(evaluation, index)[kind])
    return f"{KINDS[kind]} {share} % of its pixels, {accuracy}"


def _errors_in_words(evaluation: Evaluation, index: int, accuracy: str) -> str:
    if "kinds" not in evaluation.by_image:
        return f"{accuracy} %"
    shares = _shares(evaluation, index).items()
    return ", ".join(f"{KINDS[kind]} {_percent(share)} %" for kind, share in shares)


def _marked(evaluation: Evaluation, kind: int | None) -> int | None:
    """The kind of errors to mark; all are of one kind if kinds were not measured."""
    return kind if "kinds" in evaluation.by_image else INSIDE


def _labels_panel(title: str, name: str, labels: np.ndarray, run: Evaluation) -> dict[str, str]:
    present = ", ".join(run.classes[index] for index in _present(labels, run.classes))
    alt = f"{title} of {name}: {present or 'nothing but void'}"
    return dict(caption=title, alt=alt, uri=labels_uri(labels, run.palette, run.numbers))


def _present(labels: np.ndarray, classes: Sequence[str]) -> list[int]:
    return [int(index) for index in np.unique(labels) if index < len(classes)]


def _percent(fraction: float | None) -> str:
    return "none" if fraction is None else f"{100 * fraction:.2f}"
