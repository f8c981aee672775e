"""What score.py says of one folder of predictions and of two, on the terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from fcn_plugin.evaluation.comparison import Change, Comparison
    from fcn_plugin.evaluation.folders import Tally
    from fcn_plugin.evaluation.intervals import Bounds, Intervals
    from fcn_plugin.evaluation.protocols import Protocol

# Key in the JSON -> key in ``measures.summary``.
OF_CLASSES = {
    "iu": "class_iu",
    "accuracy": "class_accuracy",
    "precision": "class_precision",
    "dice": "class_dice",
    "boundary_iu": "class_boundary_iu",
}
OTHER_KEYS = {"final": "final_score"}
SHOWN = 4  # most images named that are much better, and worse, in B


@dataclass
class Side:
    """A folder of predictions, counted.

    Attributes:
        scores: ``measures.summary``.
        found: intervals, or None.
    """

    folder: Path
    tally: Tally
    matrix: np.ndarray
    scores: dict[str, Any]
    found: Intervals | None


def titles(rule: Protocol, scores: dict[str, Any]) -> dict[str, str]:
    """Name of each score that the rule gives and that was measured, and its title."""
    names = {
        "pixel_accuracy": "pixel acc.",
        "mean_accuracy": "mean acc.",
        "mean_iu": rule.mean,
        "frequency_weighted_iu": "f.w. IU",
        "mean_precision": "mean prec.",
        "mean_dice": "mean Dice",
        "boundary_iu": "boundary IU",
        **({"final": "final score"} if rule.final else {}),
        **{name: f"{name[7:]} px trimap" for name in scores if name.startswith("trimap_")},
        **{name: f"wrong: {name[7:]}" for name in scores if name.startswith("errors_")},
    }
    return {name: title for name, title in names.items() if name in scores}


def lines(rule: Protocol, side: Side) -> Iterator[str]:
    """The scores of a side, for the terminal."""
    from fcn_plugin.evaluation.tables import class_table, in_brackets, score_table

    yield score_table(rule.classes, side.scores, side.matrix, side.found)
    if "components" in side.tally.measured:
        number, found, pixels, right = side.tally.measured["components"].astype(float)
        shares = {"found": found / number.clip(1), "pixels right": right / pixels.clip(1)}
        columns = {"number": number.astype(int), **{t: 100 * v for t, v in shares.items()}}
        yield class_table(sizes(), columns, heading="true objects")
    for name, title in titles(rule, side.scores).items():
        fraction = side.scores[name]
        interval = f" {in_brackets(side.found.scores[name])}" if side.found else ""
        yield f"{title:<15} {fraction:.4f}  ({100 * fraction:.2f} %{interval})"


def sizes() -> list[str]:
    """The bins of ``component_counts``, in words."""
    from fcn_plugin.evaluation.components import SIDES

    return [*(f"up to {side}² pixels" for side in SIDES), "larger"]


def as_json(rule: Protocol, side: Side) -> dict[str, Any]:
    """The scores of a side for the JSON file; a score without any pixels is None."""
    from fcn_plugin.evaluation.intervals import LEVEL, SEED

    content: dict[str, Any] = {
        "protocol": rule.name,
        "num_classes": len(rule.classes),
        "ignore": rule.ignored[0] if len(rule.ignored) == 1 else list(rule.ignored),
        "images": side.tally.images,
        "pixels": int(side.matrix.sum()),
        "pixels_predicted_as_no_class": int(side.matrix[:, len(rule.classes) :].sum()),
    }
    found = side.found
    if found:
        drawn = dict(percent=LEVEL, by=found.by, drawn=found.drawn)
        content["interval"] = dict(drawn, resamples=found.resamples, seed=SEED)
    for name in titles(rule, side.scores):
        interval = found.scores[name] if found else None
        content |= _with_bounds(OTHER_KEYS.get(name, name), side.scores[name], interval)
    if "trimap" in side.scores:
        pairs = found.arrays["trimap"] if found else [None] * len(side.scores["trimap"])
        content["trimap_accuracy"] = [
            _with_bounds("accuracy", value, interval)
            for value, interval in zip(side.scores["trimap"], pairs, strict=True)
        ]
    if "components" in side.tally.measured:
        rows = zip(sizes(), side.tally.measured["components"].T.tolist(), strict=True)
        keys = ("number", "found", "pixels", "right_pixels")
        content["components"] = [
            dict(size=size, **dict(zip(keys, row, strict=True))) for size, row in rows
        ]
    content["classes"] = []
    for index, (label, name) in enumerate(zip(rule.labels, rule.classes, strict=True)):
        row: dict[str, Any] = dict(label=label, name=name)
        for key, own in OF_CLASSES.items():
            if own in side.scores:
                interval = found.arrays[own][index] if found else None
                row |= _with_bounds(key, side.scores[own][index], interval)
        content["classes"].append(row | dict(pixels=int(side.matrix[index].sum())))
    return content


def _share(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _with_bounds(name: str, value: float, interval: Bounds | None) -> dict[str, float | None]:
    from fcn_plugin.evaluation.intervals import HIGH, LOW

    ends = dict(zip((LOW, HIGH), interval or (), strict=False))
    return {name: _share(value), **{name + end: _share(bound) for end, bound in ends.items()}}


# --- A against B ---------------------------------------------------------------------------------


def changed_images(paths: list[Path], changes: np.ndarray) -> dict[str, list[tuple[str, float]]]:
    """The images that are most better, and worse, in B, and the change of their mean IU."""
    ordered = sorted(
        (float(change), path.stem) for path, change in zip(paths, changes, strict=True) if change
    )
    ordered = [(name, change) for change, name in ordered if not math.isnan(change)]
    return {
        "better": [image for image in ordered[::-1] if image[1] > 0][:SHOWN],
        "worse": [image for image in ordered if image[1] < 0][:SHOWN],
    }


def comparison_lines(
    rule: Protocol,
    sides: list[Side],
    changes: Comparison,
    images: dict[str, list[tuple[str, float]]],
) -> Iterator[str]:
    """How B differs from A, for the terminal."""
    from fcn_plugin.evaluation.tables import class_table

    first, second = (100 * side.scores["class_iu"] for side in sides)
    columns = {"IU of A": first, "IU of B": second}
    yield class_table(rule.classes, {**columns, **_columns(changes.arrays["class_iu"])})
    names = titles(rule, sides[0].scores)
    sided = zip("AB", sides, strict=True)
    values = {letter: [100 * side.scores[name] for name in names] for letter, side in sided}
    columns = {**values, **_columns([changes.scores[name] for name in names])}
    yield class_table([*names.values()], columns, heading="score")
    yield f"A is {sides[0].folder}, B is {sides[1].folder}; {changes.text}"
    for kind, named in images.items():
        if named:
            yield f"most {kind}: " + ", ".join(f"{name} {100 * by:+.2f}" for name, by in named)


def _columns(changes: list[Change]) -> dict[str, list[Any]]:
    from fcn_plugin.evaluation.tables import in_brackets

    return {
        "change": ["-" if math.isnan(c.value) else f"{100 * c.value:+.2f}" for c in changes],
        "interval": [in_brackets(change.bounds) for change in changes],
        "B better in": ["-" if math.isnan(c.wins) else f"{100 * c.wins:.1f} %" for c in changes],
    }


def verdict(rule: Protocol, changes: Comparison) -> str:
    """Whether B is better than A, in a few words."""
    from fcn_plugin.evaluation.tables import in_brackets

    change = changes.scores["mean_iu"]
    text = f"{rule.mean} {100 * change.value:+.2f} {in_brackets(change.bounds)}"
    if changes.better is None:
        return f"no difference between A and B that can be told from chance: {text}"
    return f"B is {'better' if changes.better else 'worse'} than A: {text}"


def comparison_json(
    rule: Protocol,
    sides: list[Side],
    changes: Comparison,
    images: dict[str, list[tuple[str, float]]],
) -> dict[str, Any]:
    """A, B and their differences for the JSON file."""

    def as_row(change: Change) -> dict[str, float | None]:
        row = _with_bounds("change", change.value, change.bounds)
        return row | {"b_better": _share(change.wins)}

    names = titles(rule, sides[0].scores)
    of_classes = [(key, own) for key, own in OF_CLASSES.items() if own in changes.arrays]
    return {
        "a": dict(folder=str(sides[0].folder), **as_json(rule, sides[0])),
        "b": dict(folder=str(sides[1].folder), **as_json(rule, sides[1])),
        "changes": {OTHER_KEYS.get(n, n): as_row(changes.scores[n]) for n in names},
        "class_changes": [
            dict(name=name, **{key: as_row(changes.arrays[own][i]) for key, own in of_classes})
            for i, name in enumerate(rule.classes)
        ],
        "images": {
            kind: [dict(name=name, change=change) for name, change in named]
            for kind, named in images.items()
        },
    }
