"""What a data set consists of: sizes, classes and hashes of its pictures, without their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS

from fcn_plugin.checks.config import check_datasets
from fcn_plugin.data.display import shown
from fcn_plugin.data.labels import LoadCheckedLabel, pixel_counts
from fcn_plugin.data.near_duplicates import picture_hash
from fcn_plugin.data.numbering import IGNORED, numbering_of, set_colours
from fcn_plugin.data.originals import load_sample, plain_datasets, steps_of
from fcn_plugin.errors import UserError, width_by_height
from fcn_plugin.report.origin import dataset_title
from fcn_plugin.system.configs import wrapped
from fcn_plugin.system.progress import Progress, silent
from fcn_plugin.system.workers import on_all_cores

LOADERS = {f"{split}_dataloader": split for split in ("train", "val", "test")}
Place = tuple[int, int]  # number of the plain data set, and index in it


class Picture(NamedTuple):
    """A picture of a data set.

    Attributes:
        size: height and width.
        counts: pixels of each class, then of void, int64 [classes + 1]; None without a label.
        code: of ``picture_hash``.
        fault: why it cannot be used; then size, counts and code are empty.
    """

    path: str
    place: Place
    size: tuple[int, int] = (0, 0)
    counts: np.ndarray | None = None
    code: np.ndarray = np.zeros(0, np.uint8)
    fault: str = ""


@dataclass
class Split:
    """The pictures of a built data set, which trains, validates or tests.

    Attributes:
        title: data set, folder and list, in words.
        pictures: those that can be read; ``faults`` has a line for each other one.
    """

    name: str
    title: str
    dataset: Any
    pictures: Sequence[Picture]
    faults: Sequence[str]

    @cached_property
    def parts(self) -> list[BaseDataset]:
        return list(plain_datasets(self.dataset))

    @cached_property
    def labelled(self) -> list[Picture]:
        return [picture for picture in self.pictures if picture.counts is not None]

    @cached_property
    def counts(self) -> np.ndarray:
        """Pixels of each class and void, int64 [labelled pictures, classes + 1]."""
        rows = [picture.counts for picture in self.labelled]
        return np.array(rows, np.int64).reshape(len(rows), len(self.meta["classes"]) + 1)

    @property
    def meta(self) -> dict[str, Any]:
        return self.dataset.metainfo

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each class in the label files."""
        return numbering_of(self.meta).numbers


def observe(name: str, title: str, dataset: Any, progress: Progress = silent) -> Split:
    """Look at all pictures and labels of a built data set, on all cores.

    Raises:
        UserError: it names no classes, or none of its pictures can be read.
    """
    if not dataset.metainfo.get("classes"):
        raise UserError(f"{title}: names no classes; set metainfo.classes of its config")
    parts = list(plain_datasets(dataset))
    places = [(number, i) for number, part in enumerate(parts) for i in range(len(part))]
    pictures = []
    for picture in on_all_cores(partial(_picture, parts), places):
        pictures.append(picture)
        progress(f"Looking at {name} pictures", len(pictures), len(places))
    faults = [picture.fault for picture in pictures if picture.fault]
    if len(faults) == len(pictures):
        raise UserError(faults[0] if faults else f"{title}: no pictures; check its list and folder")
    return Split(name, title, dataset, [one for one in pictures if not one.fault], faults)


def _picture(parts: Sequence[BaseDataset], place: Place) -> Picture:
    part = parts[place[0]]
    path = str(part.get_data_info(place[1]).get("img_path"))
    try:
        results = load_sample(part, place[1])
        picture = shown(results["img"], results.get("display_bands")).pixels
        code = picture_hash(np.ascontiguousarray(picture))
        size, label = results["img"].shape[:2], results.get("gt_seg_map")
        counts = None if label is None else _counts(part, label, size, path)
    except UserError as error:
        return Picture(path, place, fault=str(error))
    return Picture(path, place, size, counts, code)


def _counts(part: BaseDataset, label: np.ndarray, size: Sequence[int], path: str) -> np.ndarray:
    """``Picture.counts``, with what mmseg's own loader of labels does not check."""
    if label.shape != tuple(size):
        sizes = f"{width_by_height(label.shape)} for an image of {width_by_height(size)}"
        raise UserError(f"{path}: label of {sizes}; use the label made for this image")
    counts, classes = pixel_counts(label), len(part.metainfo["classes"])
    void = [IGNORED, *(s.ignore_index for s in steps_of(part) if isinstance(s, LoadCheckedLabel))]
    pixels = np.append(counts[:classes], counts[list(set(void))].sum())
    pixels[[value for value in void if value < classes]] = 0
    if outside := int(counts.sum() - pixels.sum()):
        raise UserError(
            f"{path}: {outside} pixels of its label are of no class; the {classes} classes have "
            f"0-{classes - 1}, void {IGNORED}; correct the label or metainfo.classes"
        )
    return pixels


# --- from a config -------------------------------------------------------------------------------


def splits_of(cfg: Config, progress: Progress = silent) -> list[Split]:
    """The training set of a config, and its val and test sets unless they are the same.

    A test set in the config's table ``splits`` is looked at if it is there.

    Raises:
        UserError: there is no training set, or a data set is incomplete.
    """
    init_default_scope(cfg.get("default_scope", "mmseg"))
    if not cfg.get("train_dataloader"):
        raise UserError(f"{cfg.filename}: no train_dataloader in it; name a config to train with")
    check_datasets(cfg, tuple(LOADERS))
    configs: dict[str, Any] = {}
    for key, name in LOADERS.items():
        dataset = (cfg.get(key) or {}).get("dataset")
        if dataset and dataset not in configs.values():
            configs[name] = dataset
    if "test" not in configs and (test := _test_of(cfg)):
        configs["test"] = test
    splits = []
    for name, dataset in configs.items():
        set_colours(dataset)
        splits.append(observe(name, dataset_title(cfg, dataset), DATASETS.build(dataset), progress))
    return splits


def _test_of(cfg: Config) -> dict | None:
    """The config of the test set in the table ``splits``; None if its list or folder is not there.

    Of published data sets the test images are not downloaded unless one asks for them.
    """
    base, settings = cfg.get("test_dataloader"), (cfg.get("splits") or {}).get("test")
    if not base or not settings or wrapped(base.dataset):
        return None
    dataset = {**base.dataset, **settings}
    try:
        check_datasets(Config(dict(loader=dict(dataset=dataset))), ("loader",))
    except UserError:
        return None
    return dataset
