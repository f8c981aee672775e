"""What is wrong with a data set, or unusual about it, and what to do; the gravest first."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from fcn_plugin.data.near_duplicates import near_duplicates
from fcn_plugin.errors import some, width_by_height
from fcn_plugin.report.data_facts import Picture, Split

RARE = 0.001  # share of the pixels of a class below which a finding names it
FEW = 20  # training pictures
UNEQUAL = 4  # ratio of the longest sides of pictures
MOSTLY = 0.5  # share of void


class Finding(NamedTuple):
    """A sentence about what was found, and one about what to do."""

    text: str
    remedy: str


class Pair(NamedTuple):
    """A picture that is not trained on, and the training picture that it resembles."""

    train: Picture
    other: Picture
    split: Split


def pairs_of(splits: Sequence[Split]) -> list[Pair]:
    """Near duplicates across the training set and the others; not files that are in both."""
    train, *others = splits
    files = {picture.path for picture in train.pictures}
    pairs = []
    for split in others:
        rest = [picture for picture in split.pictures if picture.path not in files]
        for i, j in near_duplicates(_codes(train.pictures), _codes(rest)):
            pairs.append(Pair(train.pictures[i], rest[j], split))
    return pairs


def _codes(pictures: Sequence[Picture]) -> np.ndarray:
    return np.array([picture.code for picture in pictures], np.uint8).reshape(-1, 32)


def findings(splits: Sequence[Split], pairs: Sequence[Pair]) -> list[Finding]:
    """All findings, the gravest first; the first split is the training set."""
    return [
        *_unreadable(splits),
        *_labels(splits),
        *_leaks(splits, pairs),
        *_balance(splits),
        *_sizes(splits),
    ]


def _unreadable(splits: Sequence[Split]) -> Iterator[Finding]:
    for split in splits:
        if split.faults:
            yield Finding(
                f"Cannot be used: {_pictures(len(split.faults))} of {split.name}; "
                f"{some(split.faults, 3, '; ')}.",
                "Mend the files, or take them off the list; they are left out of this page.",
            )


def _labels(splits: Sequence[Split]) -> Iterator[Finding]:
    train, *others = splits
    names, pixels = train.meta["classes"], train.counts.sum(0)
    if not train.labelled:
        yield Finding(
            "No training picture has a label.",
            "Set train_dataloader.dataset.data_prefix.seg_map_path.",
        )
        return
    labelled = np.flatnonzero(pixels[:-1])
    if len(labelled) < 2:
        value = names[labelled[0]] if len(labelled) else "void"
        besides = " besides void" if len(labelled) and pixels[-1] else ""
        yield Finding(
            f"All training labels have one value only{besides}: {value}.",
            "Look into a label file: objects need numbers of their own, such as 1, and not 255, "
            "which is void.",
        )
    missing = [i for i in range(len(names)) if not pixels[i]]
    if missing:
        scored = [s.name for s in others if s.counts[:, missing].any()]
        also = f", though {' and '.join(scored)} has pixels of it" if scored else ""
        yield Finding(
            f"No training pixel is of {_names(names, missing)}{also}.",
            "It cannot be learned: label pictures of it, move some to train, or leave the class "
            "out. If it ought to be there, compare the numbers in the label files with the table "
            "of classes.",
        )


def _leaks(splits: Sequence[Split], pairs: Sequence[Pair]) -> Iterator[Finding]:
    files = {picture.path for picture in splits[0].pictures}
    for split in splits[1:]:
        same = [PurePath(one.path).name for one in split.pictures if one.path in files]
        near = [PurePath(one.other.path).name for one in pairs if one.split is split]
        if same:
            yield Finding(
                f"Trained on and in {split.name} as well, which makes scores too good: "
                f"{_pictures(len(same))}, {some(same, 3)}.",
                "Take them off one of the two lists.",
            )
        if near:
            yield Finding(
                f"Nearly the same as a training picture (shown below): {_pictures(len(near))} of "
                f"{split.name}, {some(near, 3)}.",
                "Copies, and neighbours in a video, make scores too good: keep them in one split. "
                "If the camera does not move, look whether they differ where it matters.",
            )


def _balance(splits: Sequence[Split]) -> Iterator[Finding]:
    train, *others = splits
    names, pixels = train.meta["classes"], train.counts.sum(0)
    for split in others:
        unseen = [i for i in np.flatnonzero(pixels[:-1]).tolist() if not split.counts[:, i].any()]
        if split.labelled and unseen:
            yield Finding(
                f"{split.name} has no pixel of {_names(names, unseen)}.",
                f"Its scores say nothing about it: move pictures that show it to {split.name}.",
            )
    for split in splits:
        void = split.counts[:, -1].sum() / max(split.counts.sum(), 1)
        if void > MOSTLY:
            yield Finding(
                f"{100 * void:.0f} % of the pixels of {split.name} are void, which is neither "
                "learned nor scored.",
                "If they are background, give background a class of its own, or check "
                "reduce_zero_label.",
            )
    shares = pixels[:-1] / max(pixels[:-1].sum(), 1)
    rare = [i for i in np.argsort(shares).tolist() if 0 < shares[i] < RARE]
    if rare:
        yield Finding(
            f"Under {100 * RARE:g} % of the training pixels are of {_names(names, rare)}.",
            "Label more of it, or give its class more weight (class_weight of the loss), or crop "
            "around it; a score of so few pixels varies from run to run.",
        )


def _sizes(splits: Sequence[Split]) -> Iterator[Finding]:
    count = len(splits[0].pictures)
    if count < FEW:
        yield Finding(
            f"Only {_pictures(count)} to train on.",
            "Start from pretrained weights, and label more.",
        )
    sizes = sorted({picture.size for split in splits for picture in split.pictures}, key=max)
    if sizes and max(sizes[-1]) >= UNEQUAL * max(sizes[0]):
        yield Finding(
            f"Pictures are from {width_by_height(sizes[0])} to {width_by_height(sizes[-1])}.",
            "A network knows things at the sizes it was trained on: if the same things are larger "
            "in some pictures, bring them to one scale (resize the files and their labels).",
        )


def _names(names: Sequence[str], indices: Sequence[int]) -> str:
    return some([names[i] for i in indices])


def _pictures(count: int) -> str:
    return f"{count:,} picture{'s' * (count != 1)}"
