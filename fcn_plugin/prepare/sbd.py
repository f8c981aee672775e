"""SBD's labels, from MATLAB structures to palette PNGs."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from fcn_plugin.data.labels import save_labels, voc_palette
from fcn_plugin.errors import UserError
from fcn_plugin.system.workers import on_all_cores

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
    # scipy does not say what it raises on arbitrary bytes.
    except Exception as error:
        raise _damaged(path, error) from error
    if label.ndim != 2 or label.dtype.kind not in "iuf" or label.size == 0:
        raise _damaged(path, f"Segmentation is {label.dtype} of {label.shape}")
    if label.min() < 0 or label.max() >= CLASSES or (label != label.astype(np.uint8)).any():
        raise UserError(f"{path}: labels outside 0-{CLASSES - 1}; unpack SBD's archive again")
    return label.astype(np.uint8)


def _damaged(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: no label of SBD ({reason}); unpack SBD's archive again")


def convert_labels(
    labels: Sequence[Path], target: Path, progress: Callable[[int, int], None]
) -> None:
    """Write each of ``labels``, NAME.mat, as ``target/NAME.png`` with VOC's palette, on all cores.

    Args:
        progress: Called with (labels written, labels in all).
    """
    for done, _ in enumerate(on_all_cores(partial(_convert, target), labels), start=1):
        progress(done, len(labels))


def _convert(target: Path, source: Path) -> None:
    save_labels(read_label(source), target / f"{source.stem}.png", voc_palette())
