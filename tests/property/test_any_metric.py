"""Confusion counts and scores against the plainest code: pixel by pixel, and in fractions."""

from contextlib import nullcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from mmengine import dist
from property.amounts import share

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.measures import MEASURES, Counts
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric
from fcn_plugin.evaluation.scores import ABSENT, confusion_matrix, scores

DTYPES = st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64])
shapes = npst.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)


@st.composite
def labellings(draw) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Truth and prediction of one shape, of any integers, mostly classes; classes and ignored."""
    classes = draw(st.integers(1, 20) | st.sampled_from([255, 300]), label="classes")
    shape = draw(shapes)
    ignored = draw(st.sampled_from([255, 0, 1, -1, 19, -128, 2**40]), label="ignored")
    pair = []
    for dtype in (draw(DTYPES), draw(DTYPES)):
        info = np.iinfo(dtype)
        some = st.integers(0, min(classes, info.max))
        special = [255, 256, classes, ignored, info.min, info.max]
        special = [value for value in special if info.min <= value <= info.max]
        elements = some | st.sampled_from(special) | npst.from_dtype(np.dtype(dtype))
        pair.append(draw(npst.arrays(dtype, shape, elements=elements)))
    return *pair, classes, ignored


def counted_by_hand(truth, prediction, classes: int, ignored: int) -> list[list[int]]:
    counts = [[0] * (classes + 1) for _ in range(classes + 1)]
    for true, said in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if true != ignored:
            row, column = (x if 0 <= x < classes else classes for x in (true, said))
            counts[row][column] += 1
    return counts


@share(3)
@given(labellings())
def test_counts_are_those_by_hand(given_labels):
    truth, prediction, classes, ignored = given_labels
    tensors = torch.tensor(truth), torch.tensor(prediction)
    found = confusion_matrix(*tensors, classes, ignored)
    assert found.dtype == torch.int64
    assert found.tolist() == counted_by_hand(truth, prediction, classes, ignored)
    for tensor, labels in zip(tensors, (truth, prediction), strict=True):
        assert np.array_equal(tensor.numpy(), labels)  # they are left as they were


# Many zeros, so that classes are absent; very large numbers, as of a whole data set.
cells = st.just(0) | st.integers(0, 9) | st.integers(0, 10**12)
matrices = st.tuples(st.integers(1, 6), st.integers(0, 2)).flatmap(
    lambda sides: npst.arrays(np.int64, (sides[0], sides[0] + sides[1]), elements=cells)
)


def scored_by_hand(matrix: np.ndarray, absent: str | float, beta: int = 1) -> list[float]:
    """Pixel accuracy, f.w. IU and the means of accuracy, IU, precision, Dice and F-score, in exact
    fractions; NaN where there is nothing to judge by."""
    rows = matrix.tolist()
    total, hits, weighted = sum(map(sum, rows)), 0, Fraction(0)
    accuracies, unions, precisions, dices, fscores = means = [], [], [], [], []
    for label, row in enumerate(rows):
        hit, true, said = row[label], sum(row), sum(other[label] for other in rows)
        union = true + said - hit
        accuracies.append(Fraction(hit, true) if true else None)
        judged = true if absent == "exclude" else union
        unions.append(Fraction(hit, union) if judged else None)
        precisions.append(Fraction(hit, said) if said and judged else None)
        dices.append(Fraction(2 * hit, true + said) if judged else None)
        weights = beta**2 * true + said
        fscores.append(Fraction((1 + beta**2) * hit, weights) if judged and weights else None)
        hits += hit
        weighted += Fraction(true * hit, union) if union else 0

    def mean(values: list[Fraction | None]) -> float:
        if absent not in ("skip", "exclude"):
            filler = Fraction(0) if absent == "zero" else Fraction(absent)
            values = [filler if value is None else value for value in values]
        present = [value for value in values if value is not None]
        return float(sum(present) / len(present)) if present else float("nan")

    of_all = [float(x / total) if total else float("nan") for x in (Fraction(hits), weighted)]
    return [*of_all, *map(mean, means)]


@share(3)
@given(matrices, st.sampled_from([*ABSENT, 0.25]), st.sampled_from([0, 1, 2]))
def test_scores_are_those_by_hand(matrix, absent, beta):
    found = scores(matrix, absent, beta)
    means = (found.mean_accuracy, found.mean_iu, found.mean_precision, found.mean_dice)
    all_scores = [found.pixel_accuracy, found.frequency_weighted_iu, *means, found.mean_fscore]
    by_hand = scored_by_hand(matrix, absent, beta)
    assert all_scores == pytest.approx(by_hand, rel=1e-12, nan_ok=True)
    if beta == 1:
        assert found.mean_fscore == pytest.approx(found.mean_dice, rel=0, nan_ok=True)


CLASSES = 4
label = st.integers(0, CLASSES - 1) | st.just(255)
sure = st.floats(-9, 9, width=32)


def sample(truth, prediction, scores=None) -> dict:
    """As a data loader and a segmentor leave it."""
    pair = dict(gt_sem_seg=truth, pred_sem_seg=prediction)
    data = {key: dict(data=torch.from_numpy(labels)[None]) for key, labels in pair.items()}
    return dict(data, seg_logits=dict(data=scores), img_path="a.jpg")


@st.composite
def image(draw) -> dict:
    shape = draw(npst.array_shapes(min_dims=2, max_dims=2, max_side=4))
    truth = draw(npst.arrays(np.int64, shape, elements=label))
    scores = torch.from_numpy(draw(npst.arrays(np.float32, (CLASSES, *shape), elements=sure)))
    return sample(truth, scores.argmax(0).numpy(), scores)


def metric(classes: int = CLASSES, **settings) -> ConfusionMatrixMetric:
    made = ConfusionMatrixMetric(**settings)
    made.dataset_meta = dict(classes=tuple(map(str, range(classes))))
    return made


def counted(images: list[dict], world: int, cuts: list[int]) -> Counts:
    """By ``world`` processes, dealt out as MMEngine's sampler does, in batches cut anywhere."""
    rounds = -(-len(images) // world)
    dealt = [images[i % len(images)] for i in range(rounds * world)]
    ranks, totals = [metric(measures=[*MEASURES]) for _ in range(world)], []
    for rank, made in enumerate(ranks):
        own = dealt[rank::world]
        edges = [0, *sorted(cut % (len(own) + 1) for cut in cuts), len(own)]
        for start, end in pairwise(edges):
            made.process({}, own[start:end])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "get_world_size", lambda: world)
        patch.setattr(dist, "all_gather", lambda number: [number] * world)
        patch.setattr(dist, "all_reduce", lambda counts: None)
        for rank, made in enumerate(ranks):
            patch.setattr(dist, "get_rank", lambda rank=rank: rank)
            totals.append(made.counting.finish(len(images)).total)
    return {name: sum(total[name] for total in totals) for name in totals[0]}


@share(0.5)
@given(
    st.lists(image(), min_size=1, max_size=7),
    st.integers(1, 4),
    st.lists(st.integers(0, 7), max_size=2),
    st.randoms(use_true_random=False),
)
def test_any_number_of_processes_batches_and_orders_count_the_same(images, world, cuts, chance):
    alone = counted(images, 1, [])
    assert alone.keys() >= {"boundary", "trimap", "confidence_by_class", "kinds", "components"}
    shuffled = chance.sample(images, len(images))
    for name, counts in counted(shuffled, world, cuts).items():
        np.testing.assert_array_equal(counts, alone[name])


@given(labellings())
def test_labels_outside_the_classes_are_refused_and_nothing_else(given_labels):
    truth, prediction, classes, ignored = given_labels
    made = metric(classes, ignore_index=ignored)
    fine = confusion_matrix(torch.tensor(truth), torch.tensor(prediction), classes, ignored)
    illegal = fine[classes].any() or fine[:, classes].any()
    raised = pytest.raises(UserError, match=r"^a\.jpg: \d+ pixels") if illegal else nullcontext()
    with raised:
        made.process({}, [sample(truth, prediction)])
