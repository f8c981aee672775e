"""The connected components of a label map, and how many of those of a truth are found."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fcn_plugin.evaluation.boundaries import is_class

TENTH = 10  # a component is found if at least a tenth of its pixels are right
SIDES = (8, 16, 32, 64, 128)  # a bin of sizes reaches up to the square of such a side; one is above
SIZES = len(SIDES) + 1


@dataclass(frozen=True)
class Components:
    """The N components of a label map [H, W]: 8-connected pixels of one label.

    They are kept as runs, which are consecutive pixels of one label in one row.

    Attributes:
        labels: of each component [N].
        sizes: pixels of each component, int64 [N].
        starts, lengths: of each run in the flattened map, int64 [R].
        owners: the component of each run, int32 [R].
        shape: (H, W).
    """

    labels: np.ndarray
    sizes: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    owners: np.ndarray
    shape: tuple[int, ...]

    def count(self, mask: np.ndarray) -> np.ndarray:
        """The number of ``mask``'s pixels in each component, int64 [N]."""
        pixels = np.add.reduceat(mask.ravel(), self.starts, dtype=np.int64)
        return _sums(self.owners, pixels, len(self.labels))

    def painted(self, values: np.ndarray) -> np.ndarray:
        """The map [H, W] of ``values`` of the components [N]."""
        return np.repeat(values[self.owners], self.lengths).reshape(self.shape)


def components(labels: np.ndarray) -> Components:
    """The components of a map of integers [H, W]; a number of no class is a label like any other.

    >>> found = components(np.array([[0, 7, 0], [7, 0, 0]]))
    >>> found.labels.tolist(), found.sizes.tolist()
    ([0, 7], [4, 2])
    """
    width = labels.shape[1]
    start = np.ones(labels.shape, bool)
    start[:, 1:] = labels[:, 1:] != labels[:, :-1]
    starts = np.flatnonzero(start)
    lengths = np.diff(starts, append=labels.size)
    # Two runs of one label, in neighbouring rows, touch if they overlap, which they first do where
    # one of them starts; or if one ends diagonally before the other's start, and there runs start
    # in both rows. So few pairs of pixels link all runs.
    upper, lower = start[:-1], start[1:]
    both = (upper & lower)[:, 1:]
    above, below = labels[:-1], labels[1:]
    links = (  # and by how many columns the upper and the lower pixel are to the right
        ((above == below) & (upper | lower), 0, 0),
        ((above[:, :-1] == below[:, 1:]) & both, 0, 1),
        ((above[:, 1:] == below[:, :-1]) & both, 1, 0),
    )
    pairs = []
    for linked, of_upper, of_lower in links:
        rows, columns = np.divmod(np.flatnonzero(linked), linked.shape[1])
        first = rows * width + columns
        pairs.append((first + of_upper, first + width + of_lower))
    runs = np.searchsorted(starts, np.concatenate(pairs, axis=1), side="right") - 1
    graph = coo_array((np.ones(runs.shape[1], bool), runs), shape=(len(starts), len(starts)))
    number, owners = connected_components(graph, directed=False)
    first_runs = np.unique(owners, return_index=True)[1]
    return Components(
        labels=labels.reshape(-1)[starts[first_runs]],
        sizes=_sums(owners, lengths, number),
        starts=starts,
        lengths=lengths,
        owners=owners,
        shape=labels.shape,
    )


def _sums(owners: np.ndarray, values: np.ndarray, number: int) -> np.ndarray:
    # bincount adds float64, which is exact for whole numbers below 2^53.
    return np.bincount(owners, values, minlength=number).astype(np.int64)


def component_counts(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    true: Components | None = None,
) -> np.ndarray:
    """Components, found ones, pixels and right pixels by the component's size: int64 [4, SIZES].

    Args:
        truth, prediction, num_classes: as in ``boundaries``; void is no component.
        true: ``components(truth)``, for callers that need it more than once.

    >>> truth, prediction = np.array([[0, 0, 1, 255]]), np.array([[0, 1, 0, 0]])
    >>> component_counts(truth, prediction, 2)[:, 0].tolist()
    [2, 1, 3, 1]
    """
    if true is None:
        true = components(truth)
    right = true.count(truth == prediction)
    found = right * TENTH >= true.sizes
    bins = np.searchsorted(np.square(SIDES), true.sizes)
    rows = np.ones_like(right), found, true.sizes, right
    classes = is_class(true.labels, num_classes)
    return np.array([_sums(bins[classes], row[classes], SIZES) for row in rows])
