"""How data sets number their classes: by hand, by their configs, and as mmseg's data sets do."""

import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmseg.datasets import ADE20KDataset, BaseSegDataset
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


@DATASETS.register_module()
class ReducedByItsParent(ADE20KDataset):
    """Whose settings are its parent's."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)


SHUFFLED = ((0, 2), (1, 255), (2, 0), (3, 1))
NUMBERS = [
    (Numbering(3, True), (1, 2, 3)),
    (Numbering(3, False, SHUFFLED), (2, 3, 0)),
    (Numbering(3, True, SHUFFLED), (3, 4, 1)),
    # Several values for a class: what the map names goes first, then the smallest.
    (Numbering(2, False, ((3, 1), (2, 1))), (0, 2)),
    (Numbering(2, False, ((255, 1),)), (0, 255)),
    (Numbering(300), tuple(range(300))),
    (Numbering(300, True), tuple(range(1, 301))),
]


@pytest.mark.parametrize(("numbering", "numbers"), NUMBERS)
def test_numbers_of_the_classes(numbering, numbers):
    assert numbering.numbers == numbers
    indices = np.arange(len(numbers), dtype=np.uint16).reshape(1, -1)
    assert numbering.labels(indices).tolist() == [list(numbers)]
    assert numbering.labels(indices).dtype == (np.uint16 if max(numbers) > 255 else np.uint8)


@pytest.mark.parametrize("label_map", ["a", ["a"], {"a": 1}, {1: None}])
def test_a_map_that_is_none(label_map):
    with pytest.raises(UserError, match=r"label_map: .* does not map integers to integers"):
        numbering_of(dict(classes="ab", label_map=label_map))


# --- by a config ---------------------------------------------------------------------------------

CONFIGS = [
    dict(type="FourClasses"),
    dict(type="FourClasses", metainfo=dict(classes=("d", "a", "b", "c"))),
    dict(type="FourClasses", metainfo=dict(classes=["d", "b"]), reduce_zero_label=True),
    dict(type=FourClasses, metainfo=dict(classes=["d", "b"], palette=[[8, 8, 8], [9, 9, 9]])),
    dict(type="BaseSegDataset", metainfo=dict(classes=("x", "y"), palette=COLOURS[:2])),
    dict(type="CamVidDataset", data_prefix=dict(img_path="i")),
    dict(type="CamVidDataset", data_prefix=dict(img_path="i"), metainfo=dict(classes=["car"])),
    dict(type="ADE20KDataset"),
    dict(type="ADE20KDataset", metainfo=dict(classes=("sky", "wall"))),
    dict(type="ReducedByItsParent"),
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


def test_data_sets_that_number_in_several_ways_are_refused_together():
    with pytest.raises(UserError, match="ConcatDataset number their classes in several ways"):
        metainfo_of(dict(type="ConcatDataset", datasets=CONFIGS[:2]))


def test_mistakes_in_a_config():
    with pytest.raises(UserError, match=r"type='FourClases' .* did you mean 'FourClasses'"):
        metainfo_of(dict(type="FourClases"))
    with pytest.raises(UserError, match=r"FourClasses: .* correct metainfo.classes"):
        metainfo_of(dict(type="FourClasses", metainfo=dict(classes=["e"])))
    lacking = dict(type="BaseSegDataset", reduce_zero_label=True)
    with pytest.raises(UserError, match="means class 254"):
        check_numbers(dict(lacking, metainfo=dict(classes=[str(i) for i in range(255)])))
    check_numbers(lacking)  # nothing names its classes yet


def test_what_is_shipped(tmp_path):
    """By hand."""
    voc = metainfo_of(dict(type="PascalVOCDataset", ann_file=""))
    assert numbering_of(voc) == Numbering(21)
    assert numbering_of(metainfo_of(dict(type="ADE20KDataset"))).numbers == tuple(range(1, 151))
    camvid = numbering_of(metainfo_of(dict(type="CamVidDataset")))
    assert camvid.numbers == tuple(range(len(CAMVID))) and camvid.meaning[11] == 255
    (tmp_path / "names.txt").write_text("d\nb\n")  # a file of classes
    own = metainfo_of(dict(type="FourClasses", metainfo=dict(classes=f"{tmp_path}/names.txt")))
    assert own["classes"] == ["d", "b"] and numbering_of(own).numbers == (3, 1)
