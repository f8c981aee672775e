"""Any two folders of labels: paired by name or refused."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from property.amounts import share

from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.folders import Pair, matched

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
