"""Color, depth and HHA of one picture as one image, in the order and numbers of Caffe's layer."""

import pickle

import numpy as np
import pytest
from PIL import Image

from fcn_plugin.data.display import shown
from fcn_plugin.data.side_by_side import LoadSideBySide
from fcn_plugin.errors import DamagedFile, UserError

SIZE = (24, 32)
RNG = np.random.default_rng(0)
COLOR, HHA = (RNG.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(2))
DEPTH = RNG.integers(500, 10_000, SIZE, np.uint16)


@pytest.fixture
def picture(tmp_path):
    for folder, pixels in (("images", COLOR), ("hha", HHA), ("depth", DEPTH)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "img_1.png")
    return tmp_path / "images/img_1.png"


def load(picture, missing=None, **files) -> dict:
    return LoadSideBySide(files, missing)(dict(img_path=str(picture)))


def test_bands_are_those_of_the_authors_layer(picture):
    """BGR, HHA in the order of its file, the log of depth in single precision."""
    both = load(picture, images="bgr", hha="rgb")
    assert both["img"].dtype == np.uint8 and both["img_shape"] == both["ori_shape"] == SIZE
    assert np.array_equal(both["img"], np.concatenate([COLOR[..., ::-1], HHA], -1))
    assert np.array_equal(shown(both["img"], both["display_bands"]).pixels, COLOR)
    deep = load(picture, images="bgr", depth="log")["img"]
    assert deep.dtype == np.float32 and deep.shape == (*SIZE, 4)
    assert np.array_equal(deep[..., :3], COLOR[..., ::-1])
    assert np.array_equal(deep[..., 3], np.log(DEPTH.astype(np.float32)))
    plain = load(picture, images="rgb", depth="grey", hha="bgr")["img"]
    assert np.array_equal(
        plain, np.concatenate([COLOR, DEPTH[..., None], HHA[..., ::-1]], -1).astype(np.float32)
    )


def test_the_picture_itself_may_lie_in_any_folder(picture):
    moved = picture.parent.rename(picture.parent.with_name("photos")) / picture.name
    assert load(moved, images="bgr", hha="rgb")["img"].shape == (*SIZE, 6)


def test_where_no_depth_was_measured_the_band_is_missing(picture):
    holes = DEPTH.copy()
    holes[:3] = 0
    Image.fromarray(holes).save(picture.parents[1] / "depth/img_1.png")
    with pytest.raises(UserError, match=r"96 pixels of 0, which has no logarithm.*set missing"):
        load(picture, images="bgr", depth="log")
    deep = load(picture, missing=7.844, images="bgr", depth="log")["img"][..., 3]
    assert (deep[:3] == np.float32(7.844)).all()
    assert np.array_equal(deep[3:], np.log(DEPTH[3:].astype(np.float32)))


def test_settings_and_files_that_are_refused(picture):
    with pytest.raises(UserError, match=r"files\.depth 'logarithm', must be one of"):
        LoadSideBySide(dict(images="bgr", depth="logarithm"))
    with pytest.raises(UserError, match="files is empty"):
        LoadSideBySide({})
    with pytest.raises(UserError, match=r"hha/img_1\.png: a picture of mode RGB"):
        load(picture, images="bgr", hha="grey")
    depth = picture.parents[1] / "depth/img_1.png"
    Image.fromarray(DEPTH[1:]).save(depth)
    with pytest.raises(UserError, match=r"depth/img_1\.png: 32x23, but .*images/img_1\.png has 32"):
        load(picture, images="bgr", depth="log")
    depth.write_bytes(depth.read_bytes()[:300])
    with pytest.raises(DamagedFile, match=r"depth/img_1\.png: damaged image"):
        load(picture, images="bgr", depth="log")
    depth.unlink()
    with pytest.raises(UserError, match=r"depth/img_1\.png: no such image"):
        load(picture, images="bgr", depth="log")


def test_it_goes_to_workers(picture):
    loader = pickle.loads(pickle.dumps(LoadSideBySide(dict(images="bgr", hha="rgb"))))
    assert loader(dict(img_path=str(picture)))["img"].shape == (*SIZE, 6)
