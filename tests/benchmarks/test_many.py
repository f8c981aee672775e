"""benchmarks/many.py: what it measures of a process, and its table."""

import sys

import many
import pytest
from PIL import Image
from tools.running import ran


def test_a_process_is_measured(tmp_path):
    code = (
        "import sys, time, pathlib; pathlib.Path(sys.argv[-1]).mkdir(); "
        "block = b'x' * (100 * 2**20); time.sleep(0.3); print('network', 0.2)"
    )
    taken = many.measure({"one": ["-c", code]}, tmp_path / "out", 2)["one"]
    assert len(taken) == 2 and not (tmp_path / "out").exists()
    for run in taken:
        assert 0.3 < run.seconds < 20 and run.network == 0.2
        if sys.platform == "linux":  # not this process's own, which has imported torch
            assert 100 < run.peak / many.MIB < 200
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        many.once(["-c", "1 / 0"], tmp_path / "out")


def test_the_table_has_medians_and_ratios_to_the_same_work():
    mib = many.MIB
    of = {
        "predict": [many.Taken(4, 200 * mib, 3), many.Taken(9, 300 * mib, 9)],
        "predict, labels alone": [many.Taken(3, 100 * mib, 2)],
        "mmseg": [many.Taken(13, 500 * mib, 0)],
        "mmseg, labels alone": [many.Taken(6, 400 * mib, 0)],
    }
    lines = [" ".join(line.split()) for line in many.table(of, 10)]
    assert lines[1:3] == [
        "predict 6.5 0.50 650 250 0.50 88 %",
        "predict, labels alone 3.0 0.50 300 100 0.25 67 %",
    ]


def test_pictures_are_few_and_repeated(tmp_path):
    many.write_pictures(tmp_path / "pictures", 10)
    files = sorted((tmp_path / "pictures").iterdir())
    assert len(files) == 10 and len({file.read_bytes() for file in files}) == many.DISTINCT
    assert Image.open(files[9]).size == many.SIZE[::-1]


@pytest.mark.slow
def test_from_the_shell(tmp_path):
    said = ran("many.py narrow --pictures 2 --repeats 1", folder=tmp_path).stdout
    for side in ("predict", "mmseg", "mmseg, EncoderDecoder", "onnxruntime"):
        assert f"\n  {side}  " in said
