"""Any placement of a fine grid on a coarse one: its weights, and where a cropped grid ends."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fcn_plugin.geometry import AxisMap
from fcn_plugin.models.coarse import axis
from fcn_plugin.models.upsample import (
    Placement,
    interpolation_matrix,
    new_upsampling,
    placements,
)

LIKE = torch.empty(0, dtype=torch.float64)


@given(
    placement=st.builds(
        Placement,
        scale=st.floats(0.3, 9),
        offset=st.floats(-30, 30),  # also where no coarse pixel lies
        start=st.integers(0, 20),
        length=st.integers(1, 60),
    ),
    size=st.integers(1, 12),
    zero_border=st.booleans(),
    data=st.data(),
)
def test_sparse_weights_are_those_of_the_matrix(placement, size, zero_border, data):
    matrix = interpolation_matrix(placement, size, LIKE, zero_border)
    side = axis(placement, size, zero_border, LIKE.dtype, LIKE.device)
    dense = torch.zeros(len(side), size + side.pixels.shape[1], dtype=LIKE.dtype)
    dense.scatter_add_(1, side.pixels, side.weights)
    torch.testing.assert_close(dense[:, :size], matrix, rtol=0, atol=1e-12)
    assert not dense[:, size:].any()
    start = data.draw(st.integers(0, len(side) - 1), label="first of a part")
    fine = slice(start, data.draw(st.integers(start + 1, len(side)), label="its end"))
    coarse, part = side.part(fine, multiple=8)
    assert len(part) % 8 == 0 and not part[fine.stop - fine.start :].any()
    expected = torch.zeros(fine.stop - fine.start, size, dtype=LIKE.dtype)
    expected[:, coarse] = part[: fine.stop - fine.start]
    torch.testing.assert_close(expected, matrix[fine], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "start", "length"), [("nearest", 9, 15), ("bilinear", 7, 19), ("deconv", 7, 19)]
)
def test_a_grid_is_cropped_to_the_reach_of_coarser_pixels(kind, start, length):
    """Coarse pixels at 10, 14, 18, 22: half a step further, or less than a whole one."""
    grids = [(AxisMap(), 99), (AxisMap(Fraction(2)), 40), (AxisMap(Fraction(8), Fraction(20)), 4)]
    maps, sizes = zip(*grids, strict=True)
    upsamplings = [new_upsampling(kind, 1, factor) for factor in (2, 4)]
    (rows, cols), (down, _) = placements(
        [(side, side) for side in sizes], maps, upsamplings, crop_to_reach=True
    )
    assert rows == cols == Placement(4, 10, start, length)
    assert down == Placement(2, 2 * start, 0, 99)
