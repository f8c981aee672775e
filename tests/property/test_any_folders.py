"""Any two folders of labels: paired by name or refused, counted as by hand or refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image
from property.amounts import share

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.folders import Pair, counted, matched
from fcn_plugin.evaluation.protocols import PROTOCOLS

stems = st.sampled_from([*"abcdef", "a.b", "a b", "é", "\u65e5\u672c", ".hidden", "-a", "*", "[a]"])
odd_files = st.sampled_from(["a.PNG", "b.jpg", "readme", "c.png.txt", ".DS_Store", "Thumbs.db"])


def folder(path: Path, names: set[str], odd: set[str]) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name in [*(f"{stem}.png" for stem in names), *odd]:
        (path / name).touch()
    (path / "within").mkdir()
    (path / "within" / "z.png").touch()
    return path


@share(2)
@given(st.sets(stems), st.sets(stems), st.sets(odd_files), st.none() | st.lists(stems), st.data())
def test_names_are_paired_or_refused(tmp_path, truths, predictions, odd, listed, data):
    truth, prediction = (
        folder(tmp_path / "t", truths, odd),
        folder(tmp_path / "p", predictions, odd),
    )
    ids = None
    if listed is not None:
        ids = tmp_path / "list.txt"
        ending = data.draw(st.sampled_from(["\n", "\r\n", " \n", "\n\n"]))
        mark = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
        ids.write_bytes(mark + "".join(f"{name}{ending}" for name in listed).encode())
    names = sorted(truths) if listed is None else listed
    both = truths & predictions
    fits = truths and predictions and names and len(set(names)) == len(names)
    fits = fits and (truths == predictions if listed is None else set(names) <= both)
    if fits:
        expected = [Pair(truth / f"{name}.png", prediction / f"{name}.png") for name in names]
        assert matched(truth, prediction, ids) == expected
    else:
        with pytest.raises(UserError) as error:
            matched(truth, prediction, ids)
        assert len(str(error.value).splitlines()) == 1


# --- what the files hold -------------------------------------------------------------------------

VOC = PROTOCOLS["voc"]
shape = npst.array_shapes(min_dims=2, max_dims=2, max_side=6)


def save(path: Path, labels: np.ndarray) -> None:
    path.unlink(missing_ok=True)
    Image.fromarray(labels).save(path)


@st.composite
def label_pairs(draw) -> tuple[np.ndarray, np.ndarray]:
    """Mostly as they must be; now and then of a wrong value, or of two sizes."""
    size = draw(shape)
    right = st.integers(0, 20)
    truth = draw(npst.arrays(np.uint8, size, elements=right | st.just(255)))
    said = draw(npst.arrays(np.uint8, size, elements=right))
    wrong = draw(st.sampled_from([None, None, None, "truth", "prediction", "size"]))
    if wrong == "truth":
        truth[0, 0] = draw(st.integers(21, 254))
    elif wrong == "prediction":
        said[0, 0] = draw(st.integers(21, 255))
    elif wrong == "size":
        said = np.pad(said, (0, 1))
    return truth, said


@given(st.lists(label_pairs(), min_size=1, max_size=4))
def test_pairs_are_counted_or_refused(tmp_path, images):
    pairs, expected = [], np.zeros((256, 256), np.int64)
    sound = True
    for number, (truth, said) in enumerate(images):
        pair = Pair(tmp_path / f"t{number}.png", tmp_path / f"p{number}.png")
        save(pair.truth, truth)
        save(pair.prediction, said)
        pairs.append(pair)
        legal = (truth <= 20) | (truth == 255)
        if truth.shape == said.shape and legal.all() and said.max() <= 20:
            np.add.at(expected, (truth, said), 1)
        else:
            sound = False
    if sound:
        found = sum(tally.counts for tally in counted(pairs, VOC, 1))
        np.testing.assert_array_equal(found, expected)
    else:
        with pytest.raises(UserError) as error:
            list(counted(pairs, VOC, 1))
        text = str(error.value)
        assert text.startswith(str(tmp_path)) and len(text.splitlines()) == 1


ODD = {
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("a label"),
}


@pytest.mark.parametrize("role", Pair._fields)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_of_labels_is_named(tmp_path, kind, role):
    pair = Pair(tmp_path / "t.png", tmp_path / "p.png")
    save(getattr(pair, "prediction" if role == "truth" else "truth"), np.zeros((2, 2), np.uint8))
    odd = getattr(pair, role)
    ODD[kind](odd)
    with pytest.raises(UserError) as error:
        list(counted([pair], VOC, 1))
    assert str(error.value).startswith(f"{odd}: ") and len(str(error.value).splitlines()) == 1


def test_a_link_to_a_file_is_the_file(tmp_path):
    save(tmp_path / "real.png", np.ones((2, 2), np.uint8))
    (tmp_path / "link.png").symlink_to("real.png")
    (tally,) = counted([Pair(tmp_path / "link.png", tmp_path / "real.png")], VOC, 1)
    assert tally.counts[1, 1] == 4 and tally.counts.sum() == 4
