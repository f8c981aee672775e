"""SBD's labels, which are MATLAB structures."""

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from fcn_plugin.errors import UserError

CLASSES = 21


def read_label(path: Path) -> np.ndarray:
    """The labels [H, W] uint8, 0-20, in ``cls/NAME.mat``: its ``GTcls.Segmentation``.

    Raises:
        UserError: the file is damaged, or holds something else.
    """
    try:
        label = loadmat(path)["GTcls"][0]["Segmentation"][0]
    except OSError as error:
        if error.filename:
            raise
        raise _damaged(path, error) from error
    # scipy does not document what it raises on damaged files.
    except Exception as error:
        raise _damaged(path, error) from error
    if label.ndim != 2 or label.dtype.kind not in "iuf" or label.size == 0:
        raise _damaged(path, f"Segmentation is {label.dtype} of {label.shape}")
    if label.min() < 0 or label.max() >= CLASSES or (label != label.astype(np.uint8)).any():
        raise UserError(f"{path}: labels outside 0-{CLASSES - 1}; unpack SBD's archive again")
    return label.astype(np.uint8)


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: not an SBD label ({reason}); unpack SBD's archive again")
