"""Images of any bands and types as pictures, and what becomes of those that cannot be shown."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from report_samples import NAMES, Images, samples

from fcn_plugin.data.display import GREY, shown
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.pictures import PicturesHook

RAMP = np.arange(6).reshape(2, 3)
BYTES = np.stack([RAMP, RAMP + 10, RAMP + 20, RAMP + 30, RAMP + 40], -1).astype(np.uint8)
SCALED = np.array([[0, 48, 101], [154, 207, 255]])  # from 0.1 to 4.9, the percentiles
HOLES = np.where(RAMP == 5, np.nan, RAMP * 0.1)
FOUR = np.stack([RAMP * 2.5, RAMP * 1e6, RAMP, RAMP], -1)
# image, picture (its one band, if it is grey), note
SHOWN = [
    (BYTES, BYTES[..., :3], "bands 1-3 of 5"),
    (BYTES[..., 0], BYTES[..., 0], ""),
    (BYTES[..., :2], BYTES[..., 0], "band 1 of 2"),
    (BYTES[..., :3].astype(np.float32), BYTES[..., 2::-1], ""),  # 8-bit levels
    (RAMP * -1e300, SCALED[::-1, ::-1], "scaled"),
    (HOLES, np.array([[0, 61, 128], [194, 255, 0]]), "scaled"),
    (np.full((2, 3), 7, np.int32), RAMP * 0, "scaled"),
    (FOUR, SCALED, "bands 1-3 of 4, scaled"),
]


@pytest.mark.parametrize(("image", "expected", "note"), SHOWN)
def test_shown(image, expected, note):
    found = shown(image)
    assert (found.pixels.dtype, found.pixels.shape, found.note) == (np.uint8, (2, 3, 3), note)
    expected = expected[..., None].repeat(3, -1) if expected.ndim == 2 else expected
    assert np.array_equal(found.pixels, expected)


def test_chosen_bands():
    """Counted from 1, in the order red, green, blue; of three bands the file's, not BGR."""
    for bands, expected, note in (
        ((4, 3, 2), BYTES[..., [3, 2, 1]], "bands 4, 3, 2 of 5"),
        ((5,), BYTES[..., [4, 4, 4]], "band 5 of 5"),
    ):
        assert (found := shown(BYTES, bands)).note == note
        assert np.array_equal(found.pixels, expected)
    assert np.array_equal(shown(BYTES[..., :3], (1, 2, 3)).pixels, BYTES[..., :3])


@pytest.mark.parametrize("image", [RAMP[0], RAMP * 1j, RAMP[:0]])
def test_what_is_no_image(image):
    with pytest.raises(UserError, match="is no image"):
        shown(image)


def test_the_hook_goes_on_and_counts_what_it_wrote(tmp_path, monkeypatch):
    warnings: list[str] = []
    monkeypatch.setattr("fcn_plugin.data.display.print_log", lambda text, *_: warnings.append(text))
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
