"""Files derived from data sets: MATLAB labels as PNGs, seg11valid and trainaug."""

import shutil
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.data.catalogue import CONTEXT_LABELS, CONTEXT_LISTS, DATA_SETS, VOC_LISTS
from fcn_plugin.data.labels import save_labels, voc_palette
from fcn_plugin.data.lists import list_text, read_ids, seg11valid, trainaug
from fcn_plugin.data.nyud import published_lists
from fcn_plugin.errors import UserError
from fcn_plugin.prepare import siftflow
from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.mat_labels import READERS
from fcn_plugin.prepare.tree_check import faults_of, first_of, names
from fcn_plugin.system.files import replacing
from fcn_plugin.system.staging import install, staged
from fcn_plugin.system.workers import on_all_cores


class Derivation(NamedTuple):
    """How to make a data set's derived splits; the functions get the common root folder."""

    title: str
    data_set: str  # the one that gets the files
    needs: tuple[str, ...]  # the data sets that are read
    lists: Callable[[Path], dict[str, list[str]]] = lambda root: {}
    list_folder: str = VOC_LISTS
    # The folder of the label PNGs, the files that they are made of, and the name of each.
    label_folder: str = ""
    label_sources: Callable[[Path], list[Path]] = lambda root: []
    label_name: Callable[[Path], str] = attrgetter("stem")

    @property
    def labels(self) -> Path:
        """The folder of the labels, relative to the common root."""
        return Path(DATA_SETS[self.data_set].folder, self.label_folder)


def _sbd_sources(root: Path) -> list[Path]:
    return sorted((root / DATA_SETS["sbd"].folder / "cls").glob("*.mat"))


def _context_lists(root: Path) -> dict[str, list[str]]:
    """VOC 2010's of classification, as in Caffe's pascalcontext_layers.py: all are labelled."""
    return {name: _ids(root, "pascal-context", name) for name in ("train", "val")}


def _context_sources(root: Path) -> list[Path]:
    return sorted((root / DATA_SETS["pascal-context"].folder / "trainval").glob("*.mat"))


def _nyud_lists(root: Path) -> dict[str, list[str]]:
    """The published ones, of the images that are there."""
    images = set(_ids(root, "nyud", "images"))
    return {
        name: [image for image in listed if image in images]
        for name, listed in published_lists().items()
    }


def _nyud_sources(root: Path) -> list[Path]:
    return sorted((root / DATA_SETS["nyud"].folder / "segmentation").glob("*.mat"))


def _seg11valid_list(root: Path) -> dict[str, list[str]]:
    val = _ids(root, "voc2011", "val")
    return {"seg11valid": seg11valid(val, _ids(root, "sbd", "train"))}


def _trainaug_lists(root: Path) -> dict[str, list[str]]:
    sbd = _ids(root, "sbd", "train") + _ids(root, "sbd", "val")
    aug, both = trainaug(_ids(root, "voc2012", "train"), _ids(root, "voc2012", "val"), sbd)
    return {"aug": aug, "trainaug": both}


def _trainaug_sources(root: Path) -> list[Path]:
    """VOC's labels of train and val, and SBD's labels of the images that SBD adds."""
    voc = _ids(root, "voc2012", "train") + _ids(root, "voc2012", "val")
    origins = {"voc2012": voc, "sbd": _trainaug_lists(root)["aug"]}
    return [
        root / DATA_SETS[name].folder / "SegmentationClass" / f"{image}.png"
        for name, images in origins.items()
        for image in images
    ]


def _siftflow_folder(root: Path) -> Path:
    return root / DATA_SETS["siftflow"].folder


def _ids(root: Path, name: str, split: str) -> list[str]:
    return names(root / DATA_SETS[name].folder, DATA_SETS[name].split(split))


# In this order: trainaug copies the PNGs made for SBD.
DERIVATIONS = (
    Derivation(
        title="SBD's labels",
        data_set="sbd",
        needs=("sbd",),
        label_folder="SegmentationClass",
        label_sources=_sbd_sources,
    ),
    Derivation(
        title="PASCAL-Context's labels",
        data_set="pascal-context",
        needs=("pascal-context",),
        lists=_context_lists,
        list_folder=CONTEXT_LISTS,
        label_folder=CONTEXT_LABELS,
        label_sources=_context_sources,
    ),
    Derivation(
        title="NYUDv2's lists and labels",
        data_set="nyud",
        needs=("nyud",),
        lists=_nyud_lists,
        label_folder="SegmentationClass",
        label_sources=_nyud_sources,
    ),
    Derivation(
        title="seg11valid",
        data_set="voc2011",
        needs=("voc2011", "sbd"),
        lists=_seg11valid_list,
    ),
    Derivation(
        title="trainaug",
        data_set="voc2012",
        needs=("voc2012", "sbd"),
        lists=_trainaug_lists,
        label_folder="SegmentationClassAug",
        label_sources=_trainaug_sources,
    ),
    Derivation(
        title="SIFT Flow's labels",
        data_set="siftflow",
        needs=("siftflow",),
        lists=lambda root: siftflow.lists(_siftflow_folder(root)),
        list_folder="",
        label_folder="labels",
        label_sources=lambda root: siftflow.label_sources(_siftflow_folder(root)),
        label_name=siftflow.label_name,
    ),
)


def derive(derivation: Derivation, job: Preparation) -> str | None:
    """Make the missing files; if a data set they need is missing, return how to get it."""
    data_set = DATA_SETS[derivation.data_set]
    folder = job.root / data_set.folder
    for need in derivation.needs:
        if not _is_ready(job, need, raw=need == derivation.data_set):
            return f"For {derivation.title} also run: fcn-plugin prepare_data {need}{job.at_root}"
    made = derivation.lists(job.root).items()
    lists = {folder / derivation.list_folder / f"{name}.txt": ids for name, ids in made}
    for path, ids in lists.items():
        # A list with the same names in another order is kept.
        if path.exists() and set(listed := read_ids(path)) != set(ids):
            raise UserError(
                f"{path}: has {len(listed):,} names, not the {len(ids):,} that follow from the "
                "other lists; move it away and run this again"
            )
    _make_labels(derivation, job)
    for path, ids in lists.items():  # last, so that every listed file exists
        if not path.exists():
            with replacing(path) as part:
                part.write_text(list_text(ids))
    if faults := faults_of(folder, data_set.derived, job.subset):
        raise UserError(
            f"{derivation.title}: {first_of(faults)}; mend what fcn-plugin prepare_data "
            f"{derivation.data_set} --check lists"
        )
    return None


def _is_ready(job: Preparation, name: str, raw: bool) -> bool:
    """Whether a data set is in place; ``raw``: its derived splits may be missing."""
    other = job._replace(name=name)
    derived = [split for split in other.data_set.derived if not split.optional and not raw]
    return other.has(other.data_set.parts[0]) and not other.faults(derived)


def _make_labels(derivation: Derivation, job: Preparation) -> None:
    target = job.root / derivation.labels
    there = {file.relative_to(target).with_suffix("").as_posix() for file in target.rglob("*.png")}
    named = ((derivation.label_name(file), file) for file in derivation.label_sources(job.root))
    missing = [(name, file) for name, file in named if name not in there]
    if not missing:
        return
    with staged(target) as stage:
        labels = on_all_cores(partial(_make_label, derivation.data_set, stage), missing)
        for done, _ in enumerate(labels, start=1):
            job.progress(f"Making {target.name}", done, len(missing))
        install(stage, target)


def _make_label(data_set: str, folder: Path, named: tuple[str, Path]) -> None:
    name, source = named
    path = folder / f"{name}.png"
    if source.suffix == ".mat":
        save_labels(READERS[data_set](source), path, voc_palette())
    else:
        shutil.copyfile(source, path)
