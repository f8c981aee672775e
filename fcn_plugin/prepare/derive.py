"""What is made of the trees of several data sets: SBD's PNGs, seg11valid and trainaug."""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fcn_plugin.data.catalogue import DATA_SETS, VOC_LISTS
from fcn_plugin.data.lists import list_text, read_ids, seg11valid, trainaug
from fcn_plugin.errors import UserError
from fcn_plugin.prepare.job import Preparation
from fcn_plugin.prepare.sbd import convert_labels
from fcn_plugin.prepare.staging import install, staged
from fcn_plugin.prepare.tree_check import faults_of, names
from fcn_plugin.system.files import replacing


class Labels(NamedTuple):
    """PNGs that are made of other files, each of one with its name."""

    folder: str  # in the data set's
    sources: Callable[[Path], list[Path]]  # of the common root
    make: Callable[[Preparation, Path, list[Path]], None]  # in a folder, of some sources


class Derivation(NamedTuple):
    """All that a data set has of derived splits, made of one or several data sets."""

    title: str
    data_set: str  # whose they are
    needs: tuple[str, ...]
    lists: Callable[[Path], dict[str, list[str]]]  # their names, of the common root
    labels: Labels | None = None


def _sbd_sources(root: Path) -> list[Path]:
    return sorted((root / DATA_SETS["sbd"].folder / "cls").glob("*.mat"))


def _convert(job: Preparation, target: Path, sources: list[Path]) -> None:
    convert_labels(sources, target, partial(job.progress, "Converting SBD"))


def _seg11valid_list(root: Path) -> dict[str, list[str]]:
    val = _ids(root, "voc2011", "val")
    return {"seg11valid": seg11valid(val, _ids(root, "sbd", "train"))}


def _trainaug_lists(root: Path) -> dict[str, list[str]]:
    sbd = _ids(root, "sbd", "train") + _ids(root, "sbd", "val")
    aug, both = trainaug(_ids(root, "voc2012", "train"), _ids(root, "voc2012", "val"), sbd)
    return {"aug": aug, "trainaug": both}


def _trainaug_sources(root: Path) -> list[Path]:
    """VOC's own labels of train and val, and SBD's of what it adds."""
    own = _ids(root, "voc2012", "train") + _ids(root, "voc2012", "val")
    origins = {"voc2012": own, "sbd": _trainaug_lists(root)["aug"]}
    return [
        root / DATA_SETS[name].folder / "SegmentationClass" / f"{image}.png"
        for name, images in origins.items()
        for image in images
    ]


def _gather(job: Preparation, target: Path, sources: list[Path]) -> None:
    for done, source in enumerate(sources, start=1):
        shutil.copyfile(source, target / source.name)
        job.progress("Gathering labels for trainaug", done, len(sources))


def _ids(root: Path, name: str, split: str) -> list[str]:
    return names(root / DATA_SETS[name].folder, DATA_SETS[name].split(split))


# In this order: each may need what the one before made.
DERIVATIONS = (
    Derivation(
        title="SBD's labels",
        data_set="sbd",
        needs=("sbd",),
        lists=lambda root: {},
        labels=Labels("SegmentationClass", _sbd_sources, _convert),
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
        labels=Labels("SegmentationClassAug", _trainaug_sources, _gather),
    ),
)


def derive(derivation: Derivation, job: Preparation) -> str | None:
    """Make what of it is missing; without what it needs, say what to do for it."""
    data_set = DATA_SETS[derivation.data_set]
    folder = job.root / data_set.folder
    for need in derivation.needs:
        if not _is_ready(job, need, raw=need == derivation.data_set):
            return f"For {derivation.title} also run: tools/prepare_data.py {need}{job.at_root}"
    lists = {folder / VOC_LISTS / f"{k}.txt": v for k, v in derivation.lists(job.root).items()}
    for path, ids in lists.items():
        _refuse_other_list(path, ids)
    if derivation.labels:
        _make_labels(derivation.labels, folder, job)
    for path, ids in lists.items():  # last, so that what they name is there
        if not path.exists():
            with replacing(path) as part:
                part.write_text(list_text(ids))
    if faults := faults_of(folder, data_set.derived, job.subset):
        raise UserError(
            f"{derivation.title}: faults in it: {len(faults):,}, such as {faults[0]}; mend what "
            f"tools/prepare_data.py {derivation.data_set} --check lists"
        )
    return None


def _make_labels(labels: Labels, folder: Path, job: Preparation) -> None:
    """Those that are missing."""
    target = folder / labels.folder
    there = {path.stem for path in target.glob("*.png")}
    sources = [source for source in labels.sources(job.root) if source.stem not in there]
    if sources:
        with staged(target) as stage:
            labels.make(job, stage, sources)
            install(stage, target, replace=False)


def _refuse_other_list(path: Path, ids: Sequence[str]) -> None:
    """A list that is there already, of the same names in whatever order, stays."""
    if path.exists() and set(found := read_ids(path)) != set(ids):
        raise UserError(
            f"{path}: has {len(found):,} names, not the {len(ids):,} that follow from the other "
            "lists; move it away and run this again"
        )


def _is_ready(job: Preparation, name: str, raw: bool) -> bool:
    """Whether a data set is in place; ``raw``: without what is made of it."""
    other = job._replace(name=name)
    made = [split for split in other.data_set.derived if not split.optional and not raw]
    return other.has(other.data_set.parts[0]) and not other.faults(made)
