"""A table of differences from another implementation."""

import torch
from networks import relative_error
from torch import Tensor


class Table:
    """Printed row by row; ``status`` is 0 if all differences are within their tolerances.

    ``control``: the peer computes something else on purpose, so that each must be far above.
    """

    def __init__(self, peer: str, control: bool = False) -> None:
        self.control = control
        print(f"Largest difference from {peer}, relative to the largest score\n")
        print(f"{'net':<32}{'images':<20}{'precision':<11}difference")
        self.right: list[bool] = []

    def add(self, net: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
        size = " x ".join(map(str, (len(found), *found.shape[2:])))
        precision = "float32" if expected.dtype == torch.float32 else "float64"
        error = relative_error(found, expected)
        limit = 1000 * tolerance if self.control else tolerance
        self.right.append((error > limit) == self.control)
        verdict = "" if self.right[-1] else f"  {'below' if self.control else 'above'} {limit:g}"
        print(f"{net:<32}{size:<20}{precision:<11}{error:.1e}{verdict}", flush=True)

    @property
    def status(self) -> int:
        return 0 if self.right and all(self.right) else 1
