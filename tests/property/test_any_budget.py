"""Laws of the size of a training and of the weights of classes, on any data set and machine."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fcn_plugin.prepare.own.budget import (
    BATCH,
    SHARE,
    STRIDE,
    Machine,
    Plan,
    core_seconds,
    crop_size,
    step_memory,
)
from fcn_plugin.prepare.own.class_weights import median_frequency
from fcn_plugin.prepare.own.configs import TRAININGS

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)
costs = st.sampled_from([training.cost for training in TRAININGS.values()])
machines = st.builds(Machine, st.booleans(), st.integers(10**9, 10**11), st.integers(1, 64))
some = st.integers(1, 10**6)


@given(sizes, st.sampled_from([256, 512]))
def test_a_crop_lies_within_the_picture(size, largest):
    for crop, side in zip(crop_size(size, largest), size, strict=True):
        assert 0 < crop <= min(side, largest)
        assert crop % STRIDE == 0 or crop == side < STRIDE
        assert crop > min(side, largest) - STRIDE  # no more is lost than that takes


@given(sizes, some, st.integers(1, 250), costs, machines, st.data())
def test_more_is_never_trained_on_less(size, images, classes, cost, machine, data):
    """More pictures or classes, a larger memory, or a GPU as large."""
    plan = Plan.of(size, images, classes, cost, machine)
    assert plan.iterations % 100 == 0 and 100 <= plan.iterations <= 40_000
    assert plan.iterations % plan.validations == 0
    more = images + data.draw(some), classes + data.draw(st.integers(0, 50))
    assert Plan.of(size, more[0], classes, cost, machine).iterations >= plan.iterations
    assert Plan.of(size, images, more[1], cost, machine).iterations >= plan.iterations
    larger = machine._replace(memory=machine.memory + data.draw(st.integers(0, 10**11)))
    assert Plan.of(size, images, classes, cost, larger).batch >= plan.batch
    gpu = Plan.of(size, images, classes, cost, Machine(True, 10**12, 1))
    assert gpu.crop >= plan.crop and gpu.iterations * gpu.batch >= plan.iterations * plan.batch


@given(sizes, some, st.integers(1, 250), costs, machines)
def test_memory_and_hours_are_kept_to(size, images, classes, cost, machine):
    plan = Plan.of(size, images, classes, cost, machine)
    assert BATCH % plan.batch == 0
    room = SHARE * machine.memory
    assert plan.batch == 1 or step_memory(plan.batch, plan.crop, cost) <= room
    assert plan.batch == BATCH or step_memory(2 * plan.batch, plan.crop, cost) > room
    if not machine.gpu:
        hours = core_seconds(plan.iterations, plan.batch, plan.crop, cost) / 3600
        assert hours <= cost.cpu_hours or plan.iterations == 100


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=3, max_size=3), min_size=1))
def test_weights_depend_on_shares_alone(counts):
    """Neither on the number of images nor on their size; a class that is absent weighs 1."""
    table = np.array(counts)
    weights = median_frequency(table)
    assert median_frequency(np.concatenate([table, table])) == weights
    assert median_frequency(3 * table) == weights
    assert all(np.isfinite(weights)) and min(weights) > 0
    assert all(weights[value] == 1 for value in range(3) if not table[:, value].any())
