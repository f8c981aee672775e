"""Skip fusion of any levels, sizes and classes against interpolation written out by hand.

The reference goes by definition, in float64: a fine pixel x lies at (x - offset) / scale in the
coarse grid and takes of its two neighbours there, along each axis, what a tent of width 1 gives;
beyond the border the border's own pixels go on. Published networks are written as Caffe writes
them, by transposed convolutions and crops.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import pytest
import reference
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from property.amounts import share
from property.pyramids import crop_offset, pyramids, stack_size
from torch import Tensor
from torch.nn import functional

from fcn_plugin.geometry import AxisMap, Layer, compose, transposed_convolution
from fcn_plugin.models import SkipFusionHead
from fcn_plugin.models.features import Features

EXACT = dict(rtol=0, atol=1e-9)
sides = st.integers(1, 70)


class Case(NamedTuple):
    """A head, what a backbone returns for two images, and their size.

    ``stacks`` are the layers to each level, where the backbone tells its geometry.
    """

    head: SkipFusionHead
    levels: tuple[Tensor, ...]
    size: tuple[int, int]
    strides: list[int]
    stacks: list[list[Layer]] | None = None

    @property
    def scores(self) -> list[Tensor]:
        return [
            functional.conv2d(level, score.weight, score.bias)
            for level, score in zip(self.levels, self.head.score, strict=True)
        ]


def random_case(sizes, strides, size, draw, stacks=None) -> Case:
    channels = [draw(st.integers(1, 3)) for _ in sizes]
    torch.manual_seed(draw(st.integers(0, 2**16)))
    upsample = draw(st.sampled_from(["bilinear", "nearest", "deconv"]))
    classes, indices = draw(st.integers(2, 6), label="classes"), range(len(channels))
    head = SkipFusionHead(channels, indices, classes, upsample=upsample, strides=strides)
    for score in head.score:
        torch.nn.init.normal_(score.weight)
        torch.nn.init.normal_(score.bias)
    levels = tuple(
        torch.randn(2, count, *one, dtype=torch.float64)
        for count, one in zip(channels, sizes, strict=True)
    )
    head.double().eval()
    if upsample == "deconv":
        for upscore in head.upscore:
            upscore.init_weights()  # thirds in double precision
    return Case(head, levels, size, strides, stacks)


@st.composite
def plain(draw) -> Case:
    """A backbone of mmseg: any strides, each a multiple of the one before, equal ones too."""
    factors = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5), label="factors")
    strides = [factors[0]]
    for factor in factors[1:]:
        strides.append(strides[-1] * factor)
    size = draw(sides, label="height"), draw(sides, label="width")
    sizes = [[-(-side // stride) for side in size] for stride in strides]
    return random_case(sizes, strides, size, draw)


@st.composite
def known(draw, padded: bool) -> Case:
    """A backbone that tells its geometry; ``padded`` as published, with zeros beyond its levels."""
    stacks = draw(pyramids(padded))
    size = draw(sides, label="height"), draw(sides, label="width")
    sizes = [[stack_size(stack, side) for side in size] for stack in stacks]
    strides = [int(compose(stack).scale) for stack in stacks]
    case = random_case(sizes, strides, size, draw, stacks)
    maps = [compose(stack) for stack in stacks]
    return case._replace(levels=Features(case.levels, maps, size, zero_border=padded))


same = known(padded=False)
published = known(padded=True).filter(lambda case: case.head.upsample != "nearest")


# --- the reference -------------------------------------------------------------------------------


def along(x: Tensor, step: AxisMap, length: int, nearest: bool) -> Tensor:
    """The last axis of ``x`` at ``length`` pixels of a finer grid, placed in exact fractions."""
    columns = []
    for fine in range(length):
        at = (fine - step.offset) / step.scale
        if nearest:
            assume(at % 1 != Fraction(1, 2))  # two are nearest, and either may be taken
            shares = {(at + Fraction(1, 2)) // 1: Fraction(1)}
        else:
            shares = {at // 1: 1 - at % 1, at // 1 + 1: at % 1}
        parts = [
            float(weight) * x[..., min(max(index, 0), x.shape[-1] - 1)]
            for index, weight in shares.items()
        ]
        columns.append(sum(parts))
    return torch.stack(columns, dim=-1)


def whole_grids(case: Case) -> Tensor:
    """Every level is carried onto all of the next finer one."""
    scores = case.scores
    x = scores[-1]
    for deep in reversed(range(len(scores))):
        target = scores[deep - 1].shape[2:] if deep else case.size
        rows, columns = (
            step_onto(case, deep, *sizes) for sizes in zip(x.shape[2:], target, strict=True)
        )
        nearest = case.head.upsample == "nearest"
        x = along(x, columns, target[1], nearest).transpose(2, 3)
        x = along(x, rows, target[0], nearest).transpose(2, 3)
        x = x + scores[deep - 1] if deep else x
    return x


def step_onto(case: Case, deep: int, coarse: int, fine: int) -> AxisMap:
    """From the grid of a level to the next finer one, or the image."""
    if case.stacks is not None:
        finer = compose(case.stacks[deep - 1]) if deep else AxisMap()
        return compose(case.stacks[deep]).within(finer)
    scale = Fraction(fine, coarse)  # both cover the same area
    if case.head.upsample == "deconv":
        scale = Fraction(case.strides[deep], case.strides[deep - 1] if deep else 1)
    return AxisMap(scale, (scale - 1) / 2)


def canvases(case: Case) -> Tensor:
    """The published way: skips and the image are cut to what the upsampled scores cover."""
    scores, maps = case.scores, [compose(stack) for stack in case.stacks]
    x, grid = scores[-1], maps[-1]
    for skip, finer in zip([*scores[-2::-1], None], [*maps[-2::-1], AxisMap()], strict=True):
        window = transposed_convolution(grid.within(finer))
        grid = grid.then(window.map)
        x = reference.upscore(x, window.kernel, window.stride)
        first = crop_offset(grid, finer)
        size = case.size if skip is None else skip.shape[2:]
        before = max(-first, 0)  # what lies before the finer grid
        x, grid = x[..., before:, before:], grid.shifted(before)
        if skip is None:
            return filled(x, max(first, 0), size)
        start = max(first, 0)
        skip = skip[..., start : start + x.shape[2], start : start + x.shape[3]]
        x = x[..., : skip.shape[2], : skip.shape[3]] + skip
    raise AssertionError


def filled(x: Tensor, start: int, size: Sequence[int]) -> Tensor:
    """``x`` from pixel ``start`` of a grid of ``size`` on, with zeros where it does not reach."""
    canvas = x.new_zeros(*x.shape[:2], *size)
    part = x[..., : size[0] - start, : size[1] - start]
    canvas[..., start : start + part.shape[2], start : start + part.shape[3]] = part
    return canvas


# --- properties ----------------------------------------------------------------------------------


@given(st.one_of(plain(), same))
def test_the_scores_are_those_interpolated_by_hand(case):
    torch.testing.assert_close(case.head(case.levels, case.size), whole_grids(case), **EXACT)


@given(published)
def test_the_scores_are_those_of_crops_and_transposed_convolutions(case):
    torch.testing.assert_close(case.head(case.levels, case.size), canvases(case), **EXACT)


@share(0.5)
@given(published.filter(lambda case: case.head.upsample == "bilinear"))
def test_a_grid_beside_its_place_is_noticed(case):
    """The control: the deepest level half a pixel further on gives other scores."""
    maps = list(case.levels.maps)
    maps[-1] = AxisMap(maps[-1].scale, maps[-1].offset + maps[-1].scale / 2)
    moved = Features(case.levels, maps, case.size, zero_border=True)
    with pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(case.head(moved, case.size), canvases(case), **EXACT)
