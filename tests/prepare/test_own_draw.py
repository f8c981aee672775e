"""The images to score on, where the source has no split."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcn_plugin.errors import UserError
from fcn_plugin.prepare.own.draw import drawn
from fcn_plugin.prepare.own.source import Job


def job(val: float = 0.2, seed: int = 0, note=lambda text: None) -> Job:
    return Job(Path("in"), Path("out"), val=val, seed=seed, note=note)


IMAGES = st.lists(st.frozensets(st.integers(0, 5), min_size=1), min_size=2, max_size=40)


@given(IMAGES, st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 3))
def test_every_class_is_trained_on_and_scored_where_it_can_be(images, val, seed):
    classes = {f"photo{'x' * number}": shown for number, shown in enumerate(images)}
    train, scored = drawn(classes, job(val, seed))
    assert train and scored and sorted(train + scored) == sorted(classes)
    shown = {value: {name for name in classes if value in classes[name]} for value in range(6)}
    for names in shown.values():
        if len(names) > 1:
            assert names & set(train)
            for name in names if not names & set(scored) else ():
                # It is the last of another class to train on, or half of the images is scored.
                last = [value for value in classes[name] if shown[value] & set(train) == {name}]
                assert last or len(scored) + 1 > len(images) / 2


def test_a_rare_class_is_in_both_parts():
    classes = {f"photo{'x' * number}": {0} for number in range(100)}
    classes |= {"rare a": {0, 1}, "rare b": {0, 1}}
    for seed in range(20):
        parts = drawn(classes, job(seed=seed))
        assert [sum(name.startswith("rare") for name in part) for part in parts] == [1, 1]
        assert len(parts[1]) == 20


def test_another_image_moves_hardly_any_and_another_seed_many():
    classes = {f"photo{'x' * number}": {0} for number in range(60)}
    before = set(drawn(classes, job())[1])
    after = set(drawn(classes | {"one more": {0}}, job())[1])
    other = set(drawn(classes, job(seed=1))[1])
    assert len(before ^ after) <= 2 and len(before ^ other) > 8


def test_frames_of_a_scene_stay_together():
    names = [f"scene{scene}_{frame:06d}" for scene in "abcdefghij" for frame in range(0, 70, 7)]
    notes: list[str] = []
    train, val = drawn({name: {0} for name in names}, job(note=notes.append))
    assert len(val) == 20 and not {name[:6] for name in train} & {name[:6] for name in val}
    assert "names tell 10 scenes, which stay together; 2 of them are scored on" in notes[0]


def test_one_image_is_too_few():
    with pytest.raises(UserError, match="in: 1 labelled image to train on; at least 2"):
        drawn({"a": {0}}, job())
