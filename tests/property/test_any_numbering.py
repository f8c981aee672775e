"""Any numbering: what goes in comes out again, and what a class is written as means that class."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from mmseg.datasets import BaseSegDataset

from fcn_plugin.data.numbering import IGNORED, Numbering
from fcn_plugin.errors import UserError

VALUES = np.arange(256, dtype=np.uint8).reshape(16, 16)


def classes_as_labels_mean_themselves(numbering: Numbering) -> None:
    indices = np.arange(256, dtype=np.uint8)[None]
    labels = numbering.labels(indices)
    assert (numbering.meaning[labels] == indices)[:, : numbering.count].all()
    assert (labels[:, numbering.count :] == IGNORED).all()
    assert len(set(numbering.numbers)) == numbering.count


@given(st.integers(2, 60), st.booleans(), st.data())
def test_some_classes_of_a_data_set_in_any_order(count, reduced, data):
    """As mmseg makes the map of them: every value that is a class comes back as itself."""
    names = [f"class {i}" for i in range(count)]
    kind = type("Own", (BaseSegDataset,), dict(METAINFO=dict(classes=tuple(names))))
    chosen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    label_map = kind.get_label_map(tuple(chosen))
    numbering = Numbering(len(chosen), reduced, tuple((label_map or {}).items()))
    classes_as_labels_mean_themselves(numbering)
    assert [names[number - reduced] for number in numbering.numbers] == chosen

    left_out = {*range(reduced, count + reduced)} - {*numbering.numbers}
    assert (numbering.meaning[list(left_out)] == IGNORED).all()
    colours = [[number] * 3 for number in numbering.numbers]
    for number, colour in enumerate(numbering.palette(colours)):
        assert list(colour) == [number if number in numbering.numbers else 0] * 3


maps = st.dictionaries(st.integers(0, 255), st.integers(0, 30) | st.just(IGNORED), max_size=8)


@given(st.integers(1, 31), st.booleans(), maps)
def test_any_map(count, reduced, label_map):
    """Many to one, one to none, void to a class: as mmseg reads it, or refused in one line."""
    numbering = Numbering(count, reduced, tuple(label_map.items()))

    def meaning(value: int) -> int:
        if reduced:
            value = IGNORED if value in (0, IGNORED) else value - 1
        return label_map.get(value, value)

    expected = [meaning(value) for value in range(256)]
    assert numbering.meaning.tolist() == expected
    try:
        numbers = numbering.numbers
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert {*range(count)} - {*expected}
        return
    classes_as_labels_mean_themselves(numbering)
    there = numbering.labels(numbering.meaning[VALUES])
    for value, found in zip(VALUES.ravel().tolist(), there.ravel().tolist(), strict=True):
        of_one_class = [other for other in range(256) if expected[other] == expected[value]]
        assert found in of_one_class if expected[value] < count else found == IGNORED
        if len(of_one_class) == 1 and expected[value] < count:
            assert found == value == numbers[expected[value]]
