"""How data sets number their classes: by hand, by their configs, and as mmseg's data sets do."""

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from fcn_plugin.data.camvid import CLASSES as CAMVID
from fcn_plugin.data.numbering import (
    Numbering,
    check_numbers,
    metainfo_of,
    numbering_of,
    set_colours,
)
from fcn_plugin.errors import UserError

NAMES = ("a", "b", "c", "d")
COLOURS = [[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]]


@DATASETS.register_module()
class FourClasses(BaseSegDataset):
    """One's own, of which a config may take some classes."""

    METAINFO = dict(classes=NAMES, palette=COLOURS)


NUMBERS = [
    (Numbering(3, True, ((0, 2), (1, 255), (2, 0), (3, 1))), (3, 4, 1)),
    # Several values for a class: what the map names goes first, then the smallest.
    (Numbering(2, False, ((3, 1), (2, 1))), (0, 2)),
    (Numbering(300, True), tuple(range(1, 301))),
]


@pytest.mark.parametrize(("numbering", "numbers"), NUMBERS)
def test_numbers_of_the_classes(numbering, numbers):
    assert numbering.numbers == numbers
    indices = np.arange(len(numbers), dtype=np.uint16).reshape(1, -1)
    assert numbering.labels(indices).tolist() == [list(numbers)]
    assert numbering.labels(indices).dtype == (np.uint16 if max(numbers) > 255 else np.uint8)


# --- by a config ---------------------------------------------------------------------------------

CONFIGS = [
    dict(type="FourClasses"),
    dict(type="FourClasses", metainfo=dict(classes=("d", "a", "b", "c"))),
    dict(type="FourClasses", metainfo=dict(classes=["d", "b"]), reduce_zero_label=True),
    dict(type=FourClasses, metainfo=dict(classes=["d", "b"], palette=[[8, 8, 8], [9, 9, 9]])),
    dict(type="BaseSegDataset", metainfo=dict(classes=("x", "y"), palette=COLOURS[:2])),
    dict(type="CamVidDataset", data_prefix=dict(img_path="i")),
    dict(type="ADE20KDataset", metainfo=dict(classes=("sky", "wall"))),
    dict(type="CityscapesDataset", metainfo=dict(classes=("car", "road"))),
]


@pytest.mark.parametrize("cfg", CONFIGS, ids=lambda cfg: f"{cfg['type']}")
def test_a_config_tells_what_the_data_set_will(cfg):
    built = DATASETS.build(dict(cfg, lazy_init=True)).metainfo
    both = dict(type="ConcatDataset", datasets=[dict(type="RepeatDataset", dataset=cfg, times=2)])
    found = metainfo_of(ConfigDict(cfg))
    assert metainfo_of(ConfigDict(both)) == found
    assert tuple(found["classes"]) == tuple(built["classes"])
    for key in ("label_map", "reduce_zero_label"):
        assert found[key] == built[key], key
    if "palette" not in cfg.get("metainfo", {}):
        kind = DATASETS.get(cfg["type"]).METAINFO
        colours = dict(zip(kind["classes"], kind["palette"], strict=True))
        assert [[*each] for each in found["palette"]] == [[*colours[n]] for n in found["classes"]]


def test_colours_are_in_the_order_of_the_classes_for_mmseg_too():
    parts = [dict(each, lazy_init=True) for each in CONFIGS[:4]]
    cfg = ConfigDict(dataset=dict(type="ConcatDataset", datasets=parts))
    set_colours(cfg)
    built = [DATASETS.build(part).metainfo["palette"] for part in cfg.dataset.datasets]
    a, b, c, d = COLOURS
    assert built == [COLOURS, [d, a, b, c], [d, b], [[8, 8, 8], [9, 9, 9]]]


ALL = [str(index) for index in range(255)]
MISTAKES = [
    (dict(type="ConcatDataset", datasets=CONFIGS[:2]), "number their classes in several ways"),
    (dict(type="FourClases"), r"type='FourClases' .* did you mean 'FourClasses'"),
    (dict(CONFIGS[0], metainfo=dict(classes=["e"])), r"FourClasses: .* correct metainfo.classes"),
    (dict(type="BaseSegDataset", metainfo=dict(classes=ALL), reduce_zero_label=True), "means cl"),
]


@pytest.mark.parametrize(("cfg", "message"), MISTAKES)
def test_mistakes_in_a_config(cfg, message):
    with pytest.raises(UserError, match=message):
        check_numbers(cfg)
    with pytest.raises(UserError, match=r"label_map: .* does not map integers to integers"):
        numbering_of(dict(classes="ab", label_map={"a": 1}))


def test_what_is_shipped(tmp_path):
    """By hand."""
    assert numbering_of(metainfo_of(dict(type="ADE20KDataset"))).numbers == tuple(range(1, 151))
    camvid = numbering_of(metainfo_of(dict(type="CamVidDataset")))
    assert camvid.numbers == tuple(range(len(CAMVID))) and camvid.meaning[11] == 255
    (tmp_path / "names.txt").write_text("d\nb\n")  # a file of classes
    own = metainfo_of(dict(type="FourClasses", metainfo=dict(classes=f"{tmp_path}/names.txt")))
    assert own["classes"] == ["d", "b"] and numbering_of(own).numbers == (3, 1)
