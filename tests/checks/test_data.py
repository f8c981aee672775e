"""Images and labels that are looked at before the first iteration."""

import logging
from pathlib import Path

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from fcn_plugin.checks import data as data_check
from fcn_plugin.checks.data import check_batches, check_first_sample, check_labels
from fcn_plugin.errors import UserError
from fcn_plugin.evaluation.metric import ConfusionMatrixMetric

ROTATED = 6  # by a quarter


def data_set(root: Path, *steps: dict, classes=("a", "b", "c"), **settings):
    loading = [
        dict(type="LoadCheckedImage"),
        dict(type="LoadCheckedLabel", num_classes=len(classes)),
    ]
    return DATASETS.build(
        dict(
            type="BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            metainfo=dict(classes=classes),
            pipeline=[*loading, *steps, dict(type="PackSegInputs")],
            **settings,
        )
    )


def write(root: Path, *labels: np.ndarray, rotated: tuple[int, ...] = ()) -> Path:
    """An image for each label."""
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for i, label in enumerate(labels):
        exif = Image.Exif()
        exif[0x0112] = ROTATED if i in rotated else 1
        stored = label.T if i in rotated else label
        Image.fromarray(np.zeros_like(stored)).save(root / f"images/{i}.jpg", exif=exif)
        Image.fromarray(label).save(root / f"labels/{i}.png")
    return root


def labels_of(*values: int, size=(8, 12)) -> np.ndarray:
    return np.resize(np.array(values, np.uint8), size)


def looked_at(data, caplog) -> list[tuple[str, str]]:
    with caplog.at_level(logging.INFO):
        check_labels([data], logging.getLogger())
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@pytest.mark.parametrize(
    ("labels", "level", "said"),
    [
        ([(0, 255), (1,)], "WARNING", "No pixel of the 2 training labels in {}/labels is of c, d"),
        ([(0,)], "WARNING", "1 training labels in {}/labels is of b, c, d"),
        ([(0, 255), (1, 3), (2,)], None, None),
    ],
    ids=["some", "all but one", "none"],
)
def test_classes_without_a_pixel_are_named(tmp_path, caplog, labels, level, said):
    write(tmp_path, *(labels_of(*values) for values in labels))
    found = looked_at(data_set(tmp_path, classes=tuple("abcd")), caplog)
    assert [name for name, _ in found] == ([level] if level else [])
    for _, text in found:
        assert said.format(tmp_path) in text and "\n" not in text


def test_what_was_not_met_in_time_may_be_there(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(data_check, "PATIENCE", 0.0)
    write(tmp_path, *[labels_of(0, 255)] * 3)
    ((level, said),) = looked_at(data_set(tmp_path), caplog)
    assert level == "INFO" and "1 of 3" in said and "b, c" in said


def test_masks_that_nothing_can_be_learned_from(tmp_path, caplog):
    """Of 0 and 255, or with classes that reduce_zero_label takes."""
    write(tmp_path, labels_of(0, 255), labels_of(0))
    with pytest.raises(UserError, match=r"labels: its 2 labels hold only 0 .*write 1 in place"):
        looked_at(data_set(tmp_path), caplog)
    for path in (tmp_path / "labels").iterdir():
        Image.fromarray(labels_of(0, 1)).save(path)
    with pytest.raises(UserError, match="set reduce_zero_label=False"):
        looked_at(data_set(tmp_path, reduce_zero_label=True), caplog)


def test_a_class_that_is_ignored_is_not_missed(tmp_path, caplog):
    write(tmp_path, labels_of(1, 2, 255))
    data = data_set(tmp_path)
    data.pipeline.transforms[1].ignore_index = 0
    assert looked_at(data, caplog) == []


@pytest.mark.parametrize("rotated", [(), (2,)])
def test_sizes_in_a_batch(tmp_path, rotated):
    last = labels_of(0, size=(8, 12) if rotated else (12, 8))
    write(tmp_path, labels_of(0), labels_of(0), last, labels_of(0), rotated=rotated)
    data = data_set(tmp_path)
    if rotated:  # upright they are all the same
        check_batches("val_dataloader", DataLoader(data, batch_size=2))
        return
    with pytest.raises(UserError, match=r"2.jpg is of 8x12 .*3.jpg of 12x8.*batch_size=1"):
        check_batches("val_dataloader", DataLoader(data, batch_size=2))
    check_batches("val_dataloader", DataLoader(data, batch_size=1))
    resized = data_set(tmp_path, dict(type="Resize", scale=(8, 8), keep_ratio=False))
    check_batches("val_dataloader", DataLoader(resized, batch_size=4))


def test_the_label_of_the_first_sample(tmp_path):
    write(tmp_path, labels_of(0))
    metrics = [ConfusionMatrixMetric()]
    check_first_sample("val_dataloader", data_set(tmp_path), metrics)
    resized = data_set(tmp_path, dict(type="Resize", scale=(6, 4), keep_ratio=False))
    with pytest.raises(UserError, match=r"0.jpg.*12x8.*6x4.*val_dataloader.dataset.pipeline"):
        check_first_sample("val_dataloader", resized, metrics)


def test_random_numbers_are_left_alone(tmp_path):
    write(tmp_path, labels_of(0), labels_of(1))
    data = data_set(tmp_path, dict(type="RandomRotate", prob=0.5, degree=10.0))
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    check_first_sample("val_dataloader", data, [])
    check_batches("val_dataloader", DataLoader(data, batch_size=2))
    check_labels([data], logging.getLogger())
    assert np.random.rand() == expected
