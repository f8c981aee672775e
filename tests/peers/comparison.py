"""A table of differences from another implementation."""

import torch
from networks import relative_error
from torch import Tensor


class Table:
    """Printed row by row; ``status`` is 0 if all differences are within their tolerances."""

    def __init__(self, peer: str) -> None:
        print(f"Largest difference from {peer}, relative to the largest score\n")
        print(f"{'net':<32}{'images':<20}{'precision':<11}difference")
        self.within: list[bool] = []

    def add(self, net: str, found: Tensor, expected: Tensor, tolerance: float) -> None:
        size = " x ".join(map(str, (len(found), *found.shape[2:])))
        precision = "float32" if expected.dtype == torch.float32 else "float64"
        error = relative_error(found, expected)
        self.within.append(error <= tolerance)
        verdict = "" if self.within[-1] else f"  above {tolerance:g}"
        print(f"{net:<32}{size:<20}{precision:<11}{error:.1e}{verdict}", flush=True)

    @property
    def status(self) -> int:
        return 0 if self.within and all(self.within) else 1
