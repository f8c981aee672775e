"""Labels that are published as MATLAB files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from fcn_plugin.data.pascal_context import LISTED
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.siftflow import KINDS

# PASCAL-Context's number 0-459 -> class 0-59, as mmseg's converter numbers them: the 59 in the
# order of the list, 0 for all others.
CONTEXT_CLASSES = np.zeros(460, np.uint8)
CONTEXT_CLASSES[[*LISTED.values()]] = range(1, len(LISTED) + 1)


def read_sbd(path: Path) -> np.ndarray:
    """The labels [H, W] uint8, 0-20, in SBD's ``cls/NAME.mat``: its ``GTcls.Segmentation``.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    return _read(path, "SBD", lambda mat: mat["GTcls"][0]["Segmentation"][0], 21).astype(np.uint8)


def read_context(path: Path) -> np.ndarray:
    """The labels [H, W] uint8, 0-59, in PASCAL-Context's ``trainval/NAME.mat``: its ``LabelMap``.

    59 of its 459 classes are kept, all others become 0, background (Caffe pascalcontext_layers.py).

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    return CONTEXT_CLASSES[read_listed(path)]


def read_listed(path: Path) -> np.ndarray:
    """The labels [H, W] uint16 of all 459 classes in such a file, 1-459 as in ``labels.txt``.

    0 is none of them.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    labels = _read(path, "PASCAL-Context", lambda mat: mat["LabelMap"], len(CONTEXT_CLASSES))
    return labels.astype(np.uint16)


def read_nyud(path: Path) -> np.ndarray:
    """The labels [H, W] uint8, 0-40, in NYUDv2's ``segmentation/img_N.mat``; 0 is void.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    return _read(path, "NYUDv2", lambda mat: mat["segmentation"], 41).astype(np.uint8)


def read_siftflow(path: Path) -> np.ndarray:
    """The labels [H, W] uint8 in SIFT Flow's ``SemanticLabels`` or ``GeoLabels``: 0 for void.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    kind, classes = KINDS[path.parts[-3]]

    def labels_in(mat: dict) -> np.ndarray:
        # Void of the geometric labels is -1.
        return np.where(mat["S"] == -1, 0, mat["S"]) if kind == "geometric" else mat["S"]

    return _read(path, "SIFT Flow", labels_in, classes + 1).astype(np.uint8)


# By data set.
READERS = {
    "sbd": read_sbd,
    "pascal-context": read_context,
    "nyud": read_nyud,
    "siftflow": read_siftflow,
}


def _read(path: Path, of: str, labels_in: Callable[[dict], np.ndarray], count: int) -> np.ndarray:
    try:
        # scipy's words on a file that it cannot open name no file.
        with path.open("rb") as file:
            labels = labels_in(loadmat(file))
    except OSError as error:
        if error.filename:
            raise
        raise _damaged(path, of, error) from error
    # scipy does not document what it raises on damaged files.
    except Exception as error:
        raise _damaged(path, of, error) from error
    if labels.ndim != 2 or labels.dtype.kind not in "iuf" or labels.size == 0:
        raise _damaged(path, of, f"labels are {labels.dtype} of {labels.shape}")
    # Of NaN neither is true.
    if not (labels.min() >= 0 and labels.max() < count) or (labels % 1).any():
        raise UserError(f"{path}: labels outside 0-{count - 1}; unpack {of}'s archive again")
    return labels


def _damaged(path: Path, of: str, reason: object) -> UserError:
    return UserError(f"{path}: no label of {of} ({reason}); unpack {of}'s archive again")
