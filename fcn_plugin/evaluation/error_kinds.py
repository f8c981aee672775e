"""What kind of error each wrong pixel is."""

import numpy as np

from fcn_plugin.evaluation.boundaries import boundary_distance, is_class
from fcn_plugin.evaluation.components import TENTH, Components, components

RIGHT, MISSED, BORDER, INVENTED, INSIDE = range(5)
# Kind -> title. An error is of the first kind that applies:
KINDS = {
    MISSED: "missed objects",  # less than a tenth of the true component is right
    BORDER: "at borders",  # within NEAR of another true label
    INVENTED: "invented objects",  # less than a tenth of the predicted component is right
    INSIDE: "inside",  # the rest: regions that are partly taken for something else
}
NEAR = 3  # pixels, as in ``boundary_distance``


def error_kinds(
    truth: np.ndarray,
    prediction: np.ndarray,
    num_classes: int,
    distance: np.ndarray | None = None,
    true: Components | None = None,
) -> np.ndarray:
    """The kind of each pixel's error, a key of ``KINDS``, or ``RIGHT``: uint8 [H, W].

    Void is ``RIGHT``, and does not count in the size of a predicted component. A pixel predicted as
    no class belongs to no predicted component.

    Args:
        truth, prediction, num_classes: as in ``boundaries``.
        distance: ``boundary_distance(truth)``, for callers that need it more than once.
        true: likewise, ``components(truth)``.

    >>> truth = np.array([[0, 0, 0, 0, 0, 0, 0, 1]])
    >>> error_kinds(truth, np.array([[2, 0, 0, 3, 0, 0, 0, 0]]), 3).tolist()
    [[3, 0, 0, 4, 0, 0, 0, 1]]
    """
    if distance is None:
        distance = boundary_distance(truth)
    if true is None:
        true = components(truth)
    predicted = components(prediction)
    counted, right = is_class(truth, num_classes), truth == prediction
    missed = true.count(right) * TENTH < true.sizes
    invented = predicted.count(right) * TENTH < predicted.count(counted)
    invented &= is_class(predicted.labels, num_classes)
    kinds = predicted.painted(np.where(invented, INVENTED, INSIDE).astype(np.uint8))
    kinds[distance <= NEAR] = BORDER
    kinds[true.painted(missed)] = MISSED
    kinds[right | ~counted] = RIGHT
    return kinds


def kind_counts(kinds: np.ndarray) -> np.ndarray:
    """The number of pixels of each of ``KINDS``, int64 [4].

    >>> kind_counts(np.array([[0, 1, 4], [4, 0, 3]])).tolist()
    [1, 0, 1, 2]
    """
    return np.array([np.count_nonzero(kinds == kind) for kind in KINDS], np.int64)
