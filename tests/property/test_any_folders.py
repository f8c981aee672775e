"""Any two folders of labels: paired by name or refused, counted as by hand or refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from property.amounts import share
from property.damage import one_line_naming

from fcn_plugin.data.labels import save_labels
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
    truth = folder(tmp_path / "t", truths, odd)
    prediction = folder(tmp_path / "p", predictions, odd)
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


ODD = {
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "text": lambda path: path.write_text("a label"),
}


@pytest.mark.parametrize("role", Pair._fields)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_of_labels_is_named(tmp_path, kind, role):
    pair = Pair(tmp_path / "t.png", tmp_path / "p.png")
    odd, other = pair if role == "truth" else pair[::-1]
    save_labels(np.zeros((2, 2), np.uint8), other)
    ODD[kind](odd)
    with pytest.raises(UserError) as error:
        list(counted([pair], PROTOCOLS["voc"], 1))
    assert one_line_naming(error.value, odd)
