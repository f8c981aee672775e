"""Temperature scaling: one number that makes a network as sure as it is right (Guo et al., 2017).

All scores are divided by a temperature T, which leaves the labels as they are. T minimises the mean
negative log likelihood of the true labels, of pixels that the network was not trained on.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.calibration import BINS, calibration_counts
from fcn_plugin.models.coarse import parts

LOWEST, HIGHEST = 0.05, 20.0
# Scores to fit with, of all classes: 800,000 pixels of 21 classes, in 64 MB.
BUDGET = 2**24
SEED = 0
BLOCK = 2**18  # scores at a time, in double precision


class PixelSample:
    """The scores and true labels of pixels drawn from all images, without keeping the images.

    Each pixel gets a random number, and those with the lowest are kept: any set of so many pixels
    is as likely as any other, whatever the number, the sizes and the order of the images.

    Args:
        classes: C.
        budget: scores to keep, of all classes; while drawing, up to three times as many are kept.
    """

    def __init__(self, classes: int, budget: int = BUDGET) -> None:
        self.classes = classes
        self.most = max(budget // classes, 1)  # pixels
        self._limit = 1.0  # pixels with a higher number are too many
        self._chances = np.empty(0)
        self._scores, self._labels = torch.empty(0, classes), torch.empty(0, dtype=torch.long)
        self._new: list[tuple[np.ndarray, Tensor, Tensor]] = []

    def add(
        self,
        number: int,
        truth: Tensor,
        ignore: int,
        scores_at: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        """Draw from an image.

        Args:
            number: of the image, which seeds its random numbers.
            truth: its labels H x W, int64.
            ignore: true label of pixels that are not drawn.
            scores_at: from P rows and columns, int64, the scores P x C there.
        """
        valid = (truth != ignore).nonzero()
        chances = np.random.default_rng([SEED, number]).random(len(valid))
        drawn = np.flatnonzero(chances <= self._limit)
        drawn = drawn[_lowest(chances[drawn], self.most)]
        if len(drawn):
            rows, cols = valid[torch.from_numpy(drawn).to(valid.device)].unbind(1)
            taken = scores_at(rows, cols).cpu(), truth[rows, cols].cpu()
            self._new.append((chances[drawn], *taken))
        if sum(len(chances) for chances, *_ in self._new) > self.most:
            self._reduce()

    def drawn(self) -> tuple[Tensor, Tensor]:
        """The scores N x C and the labels N of the pixels."""
        self._reduce()
        return self._scores, self._labels

    def _reduce(self) -> None:
        chances, scores, labels = zip(
            (self._chances, self._scores, self._labels), *self._new, strict=True
        )
        self._new = []
        all_chances = np.concatenate(chances)
        kept = _lowest(all_chances, self.most)
        self._chances = all_chances[kept]
        index = torch.from_numpy(kept)
        self._scores, self._labels = torch.cat(scores)[index], torch.cat(labels)[index]
        if len(kept) == self.most:
            self._limit = self._chances.max()


def _lowest(chances: np.ndarray, most: int) -> np.ndarray:
    """The places of the ``most`` lowest numbers, in rising order."""
    if len(chances) <= most:
        return np.arange(len(chances))
    return np.sort(np.argpartition(chances, most - 1)[:most])


def fit_temperature(scores: Tensor, labels: Tensor) -> float:
    """The temperature from ``LOWEST`` to ``HIGHEST`` with the least mean negative log likelihood.

    That falls and then rises with the temperature, so there is one. It is ``LOWEST`` for a network
    that is right everywhere, which cannot be too sure, and ``HIGHEST`` for one whose scores say
    nothing of the labels.

    Args:
        scores: N x C.
        labels: N, int64, from 0 to C - 1.

    Raises:
        UserError: there are no pixels, scores are NaN or inf, or all classes have the same score
            everywhere.
    """
    if not len(labels):
        raise UserError("all pixels are void: no label to fit a temperature to; give other images")
    if not scores.isfinite().all():
        raise UserError("the network's scores are NaN or inf at some pixels; train it again")
    if bool((scores == scores[:, :1]).all()):
        raise UserError(
            "the network gives all classes the same score everywhere, and no temperature changes "
            "that; train it first"
        )

    def slope(log_temperature: float) -> float:
        """Of the mean negative log likelihood, by 1 / T: it rises with 1 / T."""
        total = 0.0
        for block, label in _blocks(scores, labels):
            probability = (block * math.exp(-log_temperature)).softmax(1)
            expected = (probability * block).sum(1)
            total += float((expected - block.gather(1, label)[:, 0]).sum())
        return total / len(labels)

    low, high = math.log(LOWEST), math.log(HIGHEST)
    if slope(low) <= 0:
        return LOWEST
    if slope(high) >= 0:
        return HIGHEST
    return math.exp(brentq(slope, low, high, xtol=1e-9))


def negative_log_likelihood(scores: Tensor, labels: Tensor, temperature: float = 1.0) -> float:
    """The mean over the pixels, in nats, of scores N x C divided by a temperature."""
    total = 0.0
    for block, label in _blocks(scores, labels):
        block = block / temperature
        total += float((block.logsumexp(1) - block.gather(1, label)[:, 0]).sum())
    return total / len(labels)


def counts_at(scores: Tensor, labels: Tensor, temperature: float = 1.0) -> np.ndarray:
    """The ``calibration_counts`` of all classes together, int64 [3, BINS], of divided scores."""
    total = torch.zeros(3, BINS, dtype=torch.int64)
    for block, label in _blocks(scores, labels):
        confidence = (block / temperature).exp().sum(1).reciprocal()
        prediction, classes = block.argmax(1), block.shape[1]
        total += calibration_counts(label[:, 0], prediction, confidence, classes, -1).sum(1)
    return total.numpy()


def _blocks(scores: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some pixels' scores less their highest, P x C in double precision, and labels P x 1."""
    for part in parts(len(labels), max(BLOCK // scores.shape[1], 1)):
        block = scores[part].double()
        yield block - block.amax(1, keepdim=True), labels[part, None]
