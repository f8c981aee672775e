"""Several labelings of an image are found, loaded in their own numbers and moved together."""

import shutil

import numpy as np
import pytest
import torch
from data.multi_task_sets import AUGMENTATION, CLASSES, GEO_OF, data_set, write_set
from mmseg.registry import DATASETS, TRANSFORMS

from fcn_plugin.data.siftflow import GEOMETRIC, SEMANTIC
from fcn_plugin.errors import UserError


@pytest.fixture
def folder(tmp_path):
    write_set(tmp_path)
    return tmp_path


@pytest.mark.parametrize("lengthwise", [False, True])
def test_labels_of_all_tasks_are_moved_with_their_image(folder, lengthwise):
    turned = [dict(type="RandomRotate", prob=0.5, degree=(90, 90), seg_pad_val=255)] * lengthwise
    dataset = DATASETS.build(data_set(folder, [*AUGMENTATION, *turned]))
    np.random.seed(1)
    seen = set()
    for index in [*range(len(dataset))] * 10:
        packed = dataset[index]
        sample = packed["data_samples"]
        main, geo = sample.gt_sem_seg.data, sample.gt_geo_seg.data
        assert geo.dtype == torch.int64 and geo.shape == (1, *packed["inputs"].shape[1:])
        assert torch.equal(geo, torch.from_numpy(GEO_OF)[main].long())
        seen |= {*main.unique().tolist()}
    assert seen == {*range(CLASSES), 255}


def test_a_flip_of_the_main_label_alone_would_show(folder):
    from mmcv.transforms import RandomFlip

    flip = dict(type=RandomFlip, prob=1.0)
    sample = DATASETS.build(data_set(folder, [flip]))[0]["data_samples"]
    assert not torch.equal(
        sample.gt_geo_seg.data[0], torch.from_numpy(GEO_OF)[sample.gt_sem_seg.data[0]]
    )


def test_subfolders_lists_and_missing_labels(folder):
    for name in ("images", "labels", "geo"):
        (folder / name / "day").mkdir()
        for file in (folder / name).glob("2.*"):
            shutil.move(file, folder / name / "day")
    dataset = DATASETS.build(data_set(folder))
    paths = [info["tasks"]["geo"]["seg_map_path"] for info in map(dataset.get_data_info, range(3))]
    assert paths == [f"{folder}/geo/{name}.png" for name in ("0", "1", "day/2")]
    (folder / "list.txt").write_text("day/2\n")
    (info,) = [*map(DATASETS.build(data_set(folder, ann_file="list.txt")).get_data_info, [0])]
    assert info["tasks"]["geo"]["seg_map_path"] == paths[2]
    for prefix in (dict(img_path="images"), dict(img_path="images", seg_map_path="labels")):
        unlabelled = DATASETS.build(data_set(folder, data_prefix=prefix, test_mode=True))
        sample = unlabelled[0]["data_samples"]
        assert "gt_geo_seg" not in sample
        assert ("gt_sem_seg" in sample) == ("seg_map_path" in prefix)


def test_what_a_data_set_says_of_its_tasks(folder):
    meta = DATASETS.build(data_set(folder)).metainfo["tasks"]["geo"]
    assert meta["classes"] == ("x", "y", "z") and meta["palette"][0] == [9, 9, 9]
    assert meta["reduce_zero_label"] and meta["label_map"] == {}
    with pytest.raises(UserError, match=r"data_prefix.goe_seg_map_path: .* no task 'goe'"):
        DATASETS.build(data_set(folder, data_prefix=dict(img_path="images", goe_seg_map_path="g")))


def test_a_value_that_is_no_class_of_the_task_names_its_file(folder):
    shutil.copy(folder / "labels/1.png", folder / "geo/1.png")
    with pytest.raises(UserError, match=r"geo/1.png: label values .* num_classes=3 only 0-3, 255"):
        DATASETS.build(data_set(folder))[1]


def test_a_single_label_is_packed_as_ever(folder):
    """Nothing is added to samples of data sets without tasks."""
    results = dict(img=np.zeros((4, 5, 3), np.uint8), gt_seg_map=np.zeros((4, 5), np.uint8))
    results |= dict(seg_fields=["gt_seg_map", "gt_depth_map"], gt_depth_map=np.zeros((4, 5)))
    for pack in ("PackSegInputs", "FastPackSegInputs"):
        packed = TRANSFORMS.build(dict(type=pack))(dict(results))["data_samples"]
        assert set(packed.keys()) == {"gt_sem_seg", "gt_depth_map"}


def test_sift_flow():
    dataset = DATASETS.build(dict(type="SIFTFlowDataset", data_prefix={}, lazy_init=True))
    assert len(SEMANTIC) == len(dataset.metainfo["palette"]) == 33 and len(GEOMETRIC) == 3
    assert dataset.metainfo["reduce_zero_label"]
    assert dataset.metainfo["tasks"]["geo"]["classes"] == GEOMETRIC
    assert SEMANTIC[0] == "awning" and SEMANTIC[27] == "sky" and SEMANTIC[32] == "window"
