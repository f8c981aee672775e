"""Images of any bands and types as pictures, and what becomes of those that cannot be shown."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ConcatDataset
from mmseg.registry import DATASETS
from PIL import Image
from report_samples import NAMES, Images, keep, samples

from fcn_plugin.data.display import GREY, Viewer, shown
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.pictures import PicturesHook
from fcn_plugin.report import evaluation
from fcn_plugin.report.hook import EvaluationHook

RAMP = np.arange(6).reshape(2, 3)
BYTES = np.stack([RAMP, RAMP + 10, RAMP + 20, RAMP + 30, RAMP + 40], -1).astype(np.uint8)
SCALED = np.array([[0, 51, 102], [153, 204, 255]])
HOLES = np.where(RAMP == 5, np.nan, RAMP * 0.1)
FOUR = np.stack([RAMP * 2.5, RAMP * 1e6, RAMP, RAMP], -1)
# image, picture (its one band, if it is grey), note
SHOWN = [
    (BYTES[..., :3], BYTES[..., 2::-1], ""),
    (BYTES, BYTES[..., :3], "bands 1-3 of 5"),
    (BYTES[..., :1], BYTES[..., 0], ""),
    (BYTES[..., 0], BYTES[..., 0], ""),
    (BYTES[..., :2], BYTES[..., 0], "band 1 of 2"),
    (BYTES[..., :3].astype(np.float32), BYTES[..., 2::-1], ""),  # 8-bit levels
    (RAMP.astype(np.uint16) * 9000, SCALED, "scaled"),
    (RAMP * -1e300, SCALED[::-1, ::-1], "scaled"),
    (HOLES, np.array([[0, 64, 128], [191, 255, 0]]), "scaled"),
    (np.full((2, 3), 7, np.int32), RAMP * 0, "scaled"),
    (FOUR, SCALED, "bands 1-3 of 4, scaled"),
]


@pytest.mark.parametrize(("image", "expected", "note"), SHOWN)
def test_shown(image, expected, note):
    found = shown(image)
    assert (found.pixels.dtype, found.pixels.shape, found.note) == (np.uint8, (2, 3, 3), note)
    expected = expected[..., None].repeat(3, -1) if expected.ndim == 2 else expected
    assert np.array_equal(found.pixels, expected)


@pytest.mark.parametrize("image", [RAMP[0], RAMP * 1j, RAMP[:0], np.array([["a"]])])
def test_what_is_no_image(image):
    with pytest.raises(UserError, match="is no image"):
        shown(image)


@DATASETS.register_module(force=True)
class Numbers(BaseDataset):
    """Images whose levels are those of a file of numbers, times a factor."""

    def __init__(self, factor: int, path) -> None:
        self.path, self.factor = str(path), factor
        super().__init__(pipeline=[self.load, lambda results: 1 / 0], serialize_data=False)

    def load_data_list(self):
        return [dict(img_path=self.path, number=3)]

    def load(self, results):
        return dict(results, img=np.full((2, 2), self.factor * results["number"]))


def test_the_loader_of_the_data_set_within_wrappers():
    parts = [dict(type="Numbers", factor=f, path=path) for f, path in ((1, "a"), (10, "b"))]
    twice = [dict(type="RepeatDataset", times=2, dataset=part) for part in parts]
    load = Viewer(ConcatDataset(twice)).load
    assert load("a").max() == 3 and load("b").max() == 30
    with pytest.raises(UserError, match="c: "):
        load("c")


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    """What is logged of pictures."""
    texts: list[str] = []
    monkeypatch.setattr("fcn_plugin.data.display.print_log", lambda text, *_: texts.append(text))
    return texts


def test_a_picture_that_cannot_be_shown_loses_no_score(tmp_path, warnings):
    items = samples(tmp_path / "data", 3, len(NAMES))
    images = Images(items, NAMES)
    whole = keep(EvaluationHook(tmp_path / "whole"), images, items)
    for number in (0, 2):
        (tmp_path / f"data/{number}.png").unlink()
    assert keep(EvaluationHook(tmp_path / "kept"), images, items) == whole
    found = evaluation.load(tmp_path / "kept")
    notes = [image.note for image in found.images]
    assert notes == ["cannot be shown", "", "cannot be shown"]
    assert all(found.has_panels(place) for place in range(3))
    (warning,) = warnings
    assert "0.png: no such image" in warning


def test_the_hook_goes_on_and_counts_what_it_wrote(tmp_path, warnings):
    items = samples(tmp_path / "data", 5, len(NAMES))
    (tmp_path / "data/0.png").write_bytes(b"")
    items[2].pred_sem_seg.data[:] = 300  # no colour for it
    told = []
    runner = SimpleNamespace(
        test_dataloader=SimpleNamespace(dataset=Images(items, NAMES)),
        logger=SimpleNamespace(info=lambda *said: told.append(int(said[1]))),
    )
    hook = PicturesHook(str(tmp_path / "pictures"), interval=2)
    hook.before_test(runner)
    for some in (items[:3], items[3:], None):
        hook.after_test_iter(runner, 0, None, some)
    hook.after_test(runner)
    assert told == [2] and len(warnings) == 1
    assert {file.name for file in hook.out_dir.iterdir()} == {"0.png", "4.png"}
    assert GREY in np.asarray(Image.open(hook.out_dir / "0.png"))
