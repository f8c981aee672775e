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

ROTATED = 6  # by a quarter


def data_set(root: Path, *steps: dict, classes: str = "abc", **settings):
    loading = [
        dict(type="LoadCheckedImage"),
        dict(type="LoadCheckedLabel", num_classes=len(classes)),
    ]
    return DATASETS.build(
        dict(
            type="BaseSegDataset",
            data_root=str(root),
            data_prefix=dict(img_path="images", seg_map_path="labels"),
            metainfo=dict(classes=tuple(classes)),
            pipeline=[*loading, *steps, dict(type="PackSegInputs")],
            **settings,
        )
    )


def write(root: Path, *labels: np.ndarray, rotated: tuple[int, ...] = ()) -> Path:
    """An image for each label."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    for i, label in enumerate(labels):
        exif = Image.Exif()
        exif[0x0112] = ROTATED if i in rotated else 1
        stored = label.T if i in rotated else label
        Image.fromarray(np.zeros_like(stored)).save(root / f"images/{i}.jpg", exif=exif)
        Image.fromarray(label).save(root / f"labels/{i}.png")
    return root


def labels_of(*values: int, size=(8, 12)) -> np.ndarray:
    return np.resize(np.array(values, np.uint8), size)


def looked_at(data, caplog) -> str:
    with caplog.at_level(logging.INFO):
        check_labels([data], logging.getLogger())
    return "\n".join(f"{record.levelname} {record.getMessage()}" for record in caplog.records)


@pytest.mark.parametrize(
    ("labels", "patience", "said"),
    [
        ([(0, 255), (1,)], 9, "WARNING No pixel of the 2 training labels in {} is of c, d:"),
        ([(0, 255)] * 3, 0, "INFO These classes did not occur in the 1 (of 3) training labels"),
        ([(0, 255), (1, 3), (2,)], 9, ""),
    ],
)
def test_classes_without_a_pixel_are_named(tmp_path, caplog, monkeypatch, labels, patience, said):
    monkeypatch.setattr(data_check, "PATIENCE", patience)
    write(tmp_path, *(labels_of(*values) for values in labels))
    found = looked_at(data_set(tmp_path, classes="abcd"), caplog)
    assert found.startswith(said.format(tmp_path / "labels")) and bool(found) == bool(said)


def test_classes_that_reduce_zero_label_takes(tmp_path, caplog):
    write(tmp_path, labels_of(0, 1), labels_of(0, 1))
    with pytest.raises(UserError, match="set reduce_zero_label=False"):
        looked_at(data_set(tmp_path, reduce_zero_label=True), caplog)


def test_sizes_in_a_batch(tmp_path):
    labels = [labels_of(0)] * 4
    data = data_set(write(tmp_path, *labels, rotated=(2,)))
    check_batches("val_dataloader", DataLoader(data, batch_size=2))  # upright all are the same
    labels[2] = labels_of(0, size=(12, 8))
    data = data_set(write(tmp_path, *labels))
    with pytest.raises(UserError, match=r"2.jpg is of 8x12 .*3.jpg of 12x8.*batch_size=1"):
        check_batches("val_dataloader", DataLoader(data, batch_size=2))
    resized = data_set(tmp_path, dict(type="Resize", scale=(8, 8), keep_ratio=False))
    check_batches("val_dataloader", DataLoader(resized, batch_size=4))


def test_random_numbers_are_left_alone(tmp_path):
    data = data_set(write(tmp_path, labels_of(0)), dict(type="RandomRotate", prob=0.5, degree=9.0))
    before = np.random.get_state()[1:3]
    check_first_sample("val_dataloader", data, [])
    check_batches("val_dataloader", DataLoader(data, batch_size=2))
    check_labels([data], logging.getLogger())
    np.testing.assert_equal(np.random.get_state()[1:3], before)
