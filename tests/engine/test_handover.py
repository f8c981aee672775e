"""Batches that a worker hands over in one piece."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from fcn_plugin.engine.handover import ALIGNMENT, Piece, in_one_piece

LABEL = torch.tensor([[[0, 1, 255], [20, 7, 0]]])
TENSORS = dict(
    labels=LABEL,
    negative=LABEL - 1,
    wide=LABEL + 1,
    columns=LABEL.mT,
    short=LABEL.short(),
    image=torch.arange(105, dtype=torch.uint8).reshape(3, 5, 7),
    floats=torch.linspace(-1, 1, 5, dtype=torch.float64),
    half=torch.ones(3).bfloat16(),
    flags=LABEL > 0,
    one=torch.tensor(3),
    empty=torch.zeros(0, 4, dtype=torch.int64),
)
ARRAYS = dict(rows=np.arange(12.0).reshape(3, 4), mirrored=np.arange(9)[::-1], text=np.array(["a"]))


class Samples:
    """Sample i; images and labels differ in size."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict:
        label = LABEL.repeat(1, index + 1, 1)
        sample = SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(path=f"{index}"))
        image = torch.full((3, *label.shape[1:]), index, dtype=torch.uint8)
        return dict(inputs=image, data_samples=sample, index=index, **TENSORS, **ARRAYS)


def equal(one: object, other: object) -> bool:
    """Whether two batches have the same types, shapes and values."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, (SegDataSample, PixelData)):
        return type(one) is type(other) and equal(dict(one.all_items()), dict(other.all_items()))
    return type(one) is type(other) and one == other


def test_batches_are_those_of_pytorch():
    build = partial(DataLoader, Samples(), batch_size=2, collate_fn=pseudo_collate)
    loader = in_one_piece(build(num_workers=1, multiprocessing_context="fork"))
    batches = list(in_one_piece(loader))
    assert len(batches) == 2
    assert all(map(equal, batches, build()))


def test_a_loader_without_workers_stays_as_it_is():
    loader = DataLoader(Samples(), collate_fn=pseudo_collate)
    assert in_one_piece(loader).collate_fn is pseudo_collate


def test_tensors_can_be_changed_one_by_one():
    """They are neither read-only nor parts of each other, and lie as PyTorch's own do."""
    pictures = torch.arange(200, dtype=torch.uint8).reshape(2, 100)
    first, second, label = pickle.loads(pickle.dumps(Piece([*pictures, LABEL])))
    first.zero_()
    label.zero_()
    assert torch.equal(second, pictures[1])
    assert first.data_ptr() % ALIGNMENT == second.data_ptr() % ALIGNMENT


def test_a_label_takes_a_byte_per_pixel_on_the_way():
    label = torch.randint(0, 256, (1, 64, 64))
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    piece = Piece(dict(inputs=image, label=label))
    assert piece.memory.is_shared()
    assert piece.memory.numel() == 4 * 64 * 64
    assert len(piece.pickled) < 1000


def test_an_error_while_pickling_names_its_cause():
    """It ends the training; in the thread that PyTorch pickles in, it would stop it for ever."""
    loader = DataLoader([lambda: 0], num_workers=1, collate_fn=list, multiprocessing_context="fork")
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        list(in_one_piece(loader))
